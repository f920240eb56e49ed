#include "apps/outlastd/worker_part.hpp"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <caf/scoped_actor.hpp>

#include "core/log.hpp"

namespace outlast::apps {
namespace {

constexpr mode_t folder_mode = 0700;

}  // namespace

// The links of a node that has none.
class WorkerPart::NoPeers final : public actors::PeerPort {
 public:
  Result<void> send(const std::string& node, cluster::Channel, FramePtr) override {
    return fail(cluster::LinkError::not_connected, "this node is on its own and has no link to " + node);
  }
};

std::string worker_socket(const std::string& data) { return (std::filesystem::path(data) / "worker" / "socket").string(); }

Result<std::unique_ptr<WorkerPart>> WorkerPart::start(const std::string& node, const std::string& data, caf::actor_system& system, const Clock& clock,
                                                      actors::WorkerRegistry* registry, bool links) {
  std::unique_ptr<WorkerPart> part(new WorkerPart(system));
  part->registry_ = registry;
  if (registry == nullptr) {
    part->no_peers_ = std::make_unique<NoPeers>();
    part->alone_ = std::make_unique<actors::RemoteActors>(system, *part->no_peers_, clock);
    part->own_registry_ = std::make_unique<actors::WorkerRegistry>(node, *part->alone_, *part->no_peers_);
    part->registry_ = part->own_registry_.get();
  }
  if (!links) return part;
  const std::string socket = worker_socket(data);
  const std::string folder = std::filesystem::path(socket).parent_path().string();
  if (::mkdir(folder.c_str(), folder_mode) != 0 && errno != EEXIST)
    return fail(cluster::LinkError::bad_address, "cannot make " + folder + ": " + std::strerror(errno));
  const std::lock_guard lock(part->mutex_);  // a worker that comes at once waits until the host is in its place
  auto host = cluster::WorkerHost::start({socket}, clock,
                                         {[raw = part.get()](const WorkerDescription& worker) { raw->on_up(worker); },
                                          [raw = part.get()](const std::string& name, const std::string& why) { raw->on_down(name, why); }});
  if (!host) return fail(std::move(host.error()));
  part->host_ = std::move(*host);
  log::info("workers_welcome", {{"socket", socket}});
  return part;
}

WorkerPart::~WorkerPart() {
  std::map<std::string, actors::LinkWorker> actors;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    actors.swap(actors_);
  }
  for (const auto& [name, actor] : actors) {
    registry_->remove(name);
    end(actor);
  }
  actors.clear();
  host_.reset();
  own_registry_.reset();
  alone_.reset();
}

void WorkerPart::end(const actors::LinkWorker& actor) {
  caf::scoped_actor self(system_);  // its handlers use the host
  self->send_exit(actor, caf::exit_reason::kill);
  self->wait_for(actor);
}

void WorkerPart::on_up(const WorkerDescription& worker) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  const actors::LinkWorker actor = system_.spawn(actors::link_worker_actor, host_.get(), worker);
  if (const auto added = registry_->add(worker, actor); !added) {
    log::error("worker_refused", {{"worker", worker.name}, {"why", added.error().message}});
    return end(actor);
  }
  actors_[worker.name] = actor;
  log::info("worker_up", {{"worker", worker.name}, {"device", worker.device}});
}

void WorkerPart::on_down(const std::string& name, const std::string& why) {
  actors::LinkWorker actor;
  {
    const std::lock_guard lock(mutex_);
    const auto at = actors_.find(name);
    if (at == actors_.end()) return;
    actor = at->second;
    actors_.erase(at);
  }
  log::warning("worker_down", {{"worker", name}, {"why", why}});
  registry_->remove(name);
  end(actor);
}

}  // namespace outlast::apps
