// ControlChannel: what stands behind the control channel of a node's links: remote actors and the registry of workers.
// The daemon passes on what PeerHandlers tell, for Channel::control only.
#pragma once

#include <string>

#include "actors/remote_actor.hpp"
#include "actors/worker_registry.hpp"

namespace outlast::actors {

// Any thread; neither blocks.
class ControlChannel {
 public:
  // Both outlive it.
  ControlChannel(RemoteActors& remote, WorkerRegistry& workers) : remote_(remote), workers_(workers) {}

  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer, const std::string& why);
  // Errors: FrameError, for a frame that lies: the links should cut the peer off. What a newer node says is no error.
  Result<void> on_frame(const cluster::Peer& peer, const FramePtr& frame);
  void tick();

 private:
  RemoteActors& remote_;
  WorkerRegistry& workers_;
};

}  // namespace outlast::actors
