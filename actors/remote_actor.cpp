#include "actors/remote_actor.hpp"

#include <algorithm>
#include <utility>

#include "actors/remote_core.hpp"
#include "core/check.hpp"

namespace outlast::actors {

RemoteActors::RemoteActors(caf::actor_system& system, PeerPort& port, const Clock& clock, RemoteLimits limits)
    : core_(std::make_shared<Core>(port, clock, limits)) {
  Core::start(core_, system);
}
RemoteActors::~RemoteActors() { core_->close(); }

void RemoteActors::on_up(const cluster::Peer& peer) { core_->on_up(peer); }
void RemoteActors::on_down(const cluster::Peer& peer, const std::string& why) { core_->on_down(peer, why); }
void RemoteActors::tick() { core_->tick(); }
RemoteCounters RemoteActors::counters() const { return core_->counters(); }
void RemoteActors::stop_serving(const std::string& name, const caf::strong_actor_ptr& only) {
  core_->stop_serving(name, only.get(), "it is served no more");
}

void RemoteActors::on_message(const cluster::Peer& peer, ask::Message message) {
  if (auto* asked = std::get_if<ask::Ask>(&message)) return core_->on_ask(peer, std::move(*asked));
  if (auto* answer = std::get_if<ask::Answer>(&message)) return core_->on_answer(peer, std::move(*answer));
  if (auto* failed = std::get_if<ask::Failed>(&message)) return core_->on_failed(peer, std::move(*failed));
  if (const auto* cancel = std::get_if<ask::Cancel>(&message)) return core_->on_cancel(peer, cancel->id);
  if (const auto* down = std::get_if<ask::Down>(&message)) return core_->on_actor_down(peer, *down);
}

Result<void> RemoteActors::serve(const std::string& name, caf::strong_actor_ptr actor, InterfaceCodec codec) {
  return core_->serve(name, std::move(actor), codec);
}

Result<caf::strong_actor_ptr> RemoteActors::proxy(const std::string& node, const std::string& name, InterfaceCodec codec,
                                                  std::chrono::milliseconds deadline) {
  return core_->proxy(node, name, codec, deadline);
}

}  // namespace outlast::actors
