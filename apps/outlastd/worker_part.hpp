// WorkerPart: what a daemon with the role gpu runs for the GPU workers on its machine: the socket that they link to, and an actor
// for each. Made and ended on the control thread.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <caf/actor_system.hpp>

#include "actors/link_worker_actor.hpp"
#include "actors/worker_registry.hpp"
#include "cluster/worker_host.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// Where workers of this machine find their node: DATA/worker/socket.
std::string worker_socket(const std::string& data);

class WorkerPart {
 public:
  // `registry`: the cluster's, which outlives it; null on a node of its own. `links` false: it only knows other nodes' workers.
  // Errors: LinkError, ActorError.
  static Result<std::unique_ptr<WorkerPart>> start(const std::string& node, const std::string& data, caf::actor_system& system, const Clock& clock,
                                                   actors::WorkerRegistry* registry, bool links);
  ~WorkerPart();  // before the actor system ends
  WorkerPart(const WorkerPart&) = delete;
  WorkerPart& operator=(const WorkerPart&) = delete;

  [[nodiscard]] actors::WorkerRegistry& registry() { return *registry_; }

 private:
  class NoPeers;
  explicit WorkerPart(caf::actor_system& system) : system_(system) {}
  void on_up(const WorkerDescription& worker);
  void on_down(const std::string& name, const std::string& why);
  void end(const actors::LinkWorker& actor);  // and waits for it: its handlers use the host

  caf::actor_system& system_;
  std::unique_ptr<actors::PeerPort> no_peers_;
  std::unique_ptr<actors::RemoteActors> alone_;
  std::unique_ptr<actors::WorkerRegistry> own_registry_;
  actors::WorkerRegistry* registry_ = nullptr;
  std::mutex mutex_;
  bool stopping_ = false;
  std::map<std::string, actors::LinkWorker> actors_;
  std::unique_ptr<cluster::WorkerHost> host_;
};

}  // namespace outlast::apps
