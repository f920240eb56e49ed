#include "actors/worker_registry.hpp"

#include <map>
#include <mutex>
#include <utility>

#include <caf/abstract_actor.hpp>
#include <caf/actor_cast.hpp>

#include "actors/remote_interfaces.hpp"
#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::actors {
namespace {

// What a worker is served as; no other served actor has such a name.
std::string served_name(const std::string& worker) { return "worker/" + worker; }

}  // namespace

class WorkerRegistry::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(std::string node, RemoteActors& remote, PeerPort& port)
      : node_(std::move(node)), remote_(remote), port_(port), table_(node_) {}

  Result<void> add(WorkerDescription worker, const GpuWorker& actor);
  // `only`: if the worker is still this actor; null: whichever it is.
  void remove(const std::string& name, const caf::actor_control_block* only);
  void close();

  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer);
  void on_workers(const cluster::Peer& peer, ask::Workers announcement);
  void tick();

  [[nodiscard]] std::vector<PlacedWorker> workers() const {
    const std::lock_guard lock(mutex_);
    return table_.workers();
  }
  [[nodiscard]] std::vector<WorkerDescription> own_workers() const {
    const std::lock_guard lock(mutex_);
    return table_.announcement().workers;
  }
  [[nodiscard]] Result<GpuWorker> worker(const std::string& name, std::chrono::milliseconds call_timeout) const;

 private:
  struct PeerState {
    Incarnation incarnation;
    bool told = false;  // of the latest version
  };
  // Under mutex_.
  void announce();
  void tell(const std::string& node, PeerState& peer);

  const std::string node_;
  RemoteActors& remote_;
  PeerPort& port_;
  mutable std::mutex mutex_;
  bool closed_ = false;
  WorkerTable table_;
  std::map<std::string, GpuWorker> actors_;  // of this node
  std::map<std::string, PeerState> peers_;
};

Result<void> WorkerRegistry::Core::add(WorkerDescription worker, const GpuWorker& actor) {
  if (!actor) return fail(ActorError::refused, "a worker has an actor");
  const std::string name = worker.name;
  // Its place first, so that nobody else takes the name; then it is reachable, and only then announced.
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return fail(ActorError::unavailable, "this node stops");
    if (auto added = table_.add(std::move(worker)); !added) return added;
    actors_.emplace(name, actor);
  }
  if (auto served = remote_.serve(served_name(name), actor); !served) {
    remove(name, nullptr);
    return served;
  }
  {
    const std::lock_guard lock(mutex_);
    announce();
  }
  // Called at once when it has ended already.
  const auto* only = caf::actor_cast<caf::strong_actor_ptr>(actor).get();
  caf::actor_cast<caf::abstract_actor*>(actor)->attach_functor([weak = weak_from_this(), name, only](const caf::error&) {
    const auto core = weak.lock();
    if (!core) return;
    log::warning("worker_gone", {{"worker", name}});
    core->remove(name, only);
  });
  return {};
}

void WorkerRegistry::Core::remove(const std::string& name, const caf::actor_control_block* only) {
  GpuWorker let_go;  // after the lock: it may be the last handle
  {
    const std::lock_guard lock(mutex_);
    const auto found = actors_.find(name);
    if (found == actors_.end()) return;
    if (only != nullptr && caf::actor_cast<caf::strong_actor_ptr>(found->second).get() != only) return;
    let_go = std::move(found->second);
    actors_.erase(found);
    table_.remove(name);
    announce();
  }
  // An actor that has ended is served no more by itself; this may be its thread, and the RemoteActors gone.
  if (only != nullptr) return;
  // Another may have taken the name meanwhile.
  remote_.stop_serving(served_name(name), caf::actor_cast<caf::strong_actor_ptr>(let_go));
}

void WorkerRegistry::Core::close() {
  std::map<std::string, GpuWorker> actors;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    actors.swap(actors_);
    peers_.clear();
  }
  for (const auto& [name, actor] : actors) remote_.stop_serving(served_name(name));
}

void WorkerRegistry::Core::announce() {
  for (auto& [node, peer] : peers_) tell(node, peer);
}

void WorkerRegistry::Core::tell(const std::string& node, PeerState& peer) {
  const auto frame = ask::encode(table_.announcement());
  check(frame.has_value(), "what the table takes can be announced");
  peer.told = port_.send(node, cluster::Channel::control, *frame).has_value();
}

void WorkerRegistry::Core::on_up(const cluster::Peer& peer) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  table_.forget(peer.node);
  PeerState& state = peers_[peer.node];
  state.incarnation = peer.incarnation;
  tell(peer.node, state);
}

void WorkerRegistry::Core::on_down(const cluster::Peer& peer) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(peer.node);
  if (found == peers_.end() || found->second.incarnation != peer.incarnation) return;
  peers_.erase(found);
  table_.forget(peer.node);
}

void WorkerRegistry::Core::on_workers(const cluster::Peer& peer, ask::Workers announcement) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(peer.node);
  if (found == peers_.end() || found->second.incarnation != peer.incarnation) return;
  table_.heard(peer.node, peer.incarnation, std::move(announcement));
}

void WorkerRegistry::Core::tick() {
  const std::lock_guard lock(mutex_);
  for (auto& [node, peer] : peers_) {
    if (!peer.told) tell(node, peer);
  }
}

Result<GpuWorker> WorkerRegistry::Core::worker(const std::string& name, std::chrono::milliseconds call_timeout) const {
  PlacedWorker placed;
  {
    const std::lock_guard lock(mutex_);
    auto found = table_.find(name);
    if (!found) return fail(std::move(found.error()));
    placed = std::move(*found);
    if (placed.node == node_) {
      const auto actor = actors_.find(placed.worker.name);
      if (actor == actors_.end()) return fail(ActorError::not_found, "there is no worker " + name);
      return actor->second;
    }
  }
  return remote_.proxy<GpuWorker>(placed.node, served_name(placed.worker.name), call_timeout);
}

WorkerRegistry::WorkerRegistry(std::string node, RemoteActors& remote, PeerPort& port)
    : core_(std::make_shared<Core>(std::move(node), remote, port)) {}
WorkerRegistry::~WorkerRegistry() { core_->close(); }
Result<void> WorkerRegistry::add(WorkerDescription worker, const GpuWorker& actor) {
  return core_->add(std::move(worker), actor);
}
void WorkerRegistry::remove(const std::string& name) { core_->remove(name, nullptr); }
void WorkerRegistry::on_up(const cluster::Peer& peer) { core_->on_up(peer); }
void WorkerRegistry::on_down(const cluster::Peer& peer) { core_->on_down(peer); }
void WorkerRegistry::on_workers(const cluster::Peer& peer, ask::Workers announcement) {
  core_->on_workers(peer, std::move(announcement));
}
void WorkerRegistry::tick() { core_->tick(); }
std::vector<PlacedWorker> WorkerRegistry::workers() const { return core_->workers(); }
std::vector<WorkerDescription> WorkerRegistry::own_workers() const { return core_->own_workers(); }
Result<GpuWorker> WorkerRegistry::worker(const std::string& name, std::chrono::milliseconds call_timeout) const {
  return core_->worker(name, call_timeout);
}

}  // namespace outlast::actors
