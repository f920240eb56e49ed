// ControlChannel: what stands behind the control channel of a node's links: remote actors, the registry of workers, and
// the spend that nodes tell each other.
// The daemon passes on what PeerHandlers tell, for Channel::control only.
#pragma once

#include <string>

#include "actors/remote_actor.hpp"
#include "actors/spend_sharing.hpp"
#include "actors/worker_registry.hpp"

namespace outlast::actors {

// Any thread; none blocks.
class ControlChannel {
 public:
  // All outlive it. `spend` null: this node hears of no spend and tells of none.
  ControlChannel(RemoteActors& remote, WorkerRegistry& workers, SpendSharing* spend = nullptr)
      : remote_(remote), workers_(workers), spend_(spend) {}

  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer, const std::string& why);
  // Errors: FrameError, for a frame that lies: the links should cut the peer off. What a newer node says is no error.
  Result<void> on_frame(const cluster::Peer& peer, const FramePtr& frame);
  void tick();

 private:
  RemoteActors& remote_;
  WorkerRegistry& workers_;
  SpendSharing* const spend_;
};

}  // namespace outlast::actors
