// WorkerRegistry: the GPU workers of the whole cluster, each usable from every node. A worker registers with its own node
// as a local actor; the node tells all others, and they reach it through a remote proxy.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "actors/interfaces.hpp"
#include "actors/peer_port.hpp"
#include "actors/remote_actor.hpp"
#include "actors/worker_table.hpp"
#include "core/node_report.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::actors {

// A call may be a step of a training run.
inline constexpr auto worker_call_timeout = std::chrono::minutes(10);

// Any thread. To be destroyed before the RemoteActors.
class WorkerRegistry {
 public:
  // All outlive it. `node`: this one's name.
  WorkerRegistry(std::string node, RemoteActors& remote, PeerPort& port);
  ~WorkerRegistry();
  WorkerRegistry(const WorkerRegistry&) = delete;
  WorkerRegistry& operator=(const WorkerRegistry&) = delete;

  // A worker of this node, until remove() or the end of its actor. Errors: ActorError.
  Result<void> add(WorkerDescription worker, const GpuWorker& actor);
  void remove(const std::string& name);

  // What the links tell, after RemoteActors was told.
  void on_up(const cluster::Peer& peer);
  void on_down(const cluster::Peer& peer);
  void on_workers(const cluster::Peer& peer, ask::Workers announcement);
  // Announces again where a queue was full. Call each 50 ms or so.
  void tick();

  [[nodiscard]] std::vector<PlacedWorker> workers() const;
  [[nodiscard]] std::vector<WorkerDescription> own_workers() const;
  // The local actor, or a proxy whose requests fail at once when its node goes. `name`: as for WorkerTable::find().
  // Errors: ActorError.
  // `call_timeout`: for an answer of another node's worker.
  [[nodiscard]] Result<GpuWorker> worker(const std::string& name,
                                         std::chrono::milliseconds call_timeout = worker_call_timeout) const;

 private:
  class Core;
  const std::shared_ptr<Core> core_;  // shared with what watches the actors of workers
};

}  // namespace outlast::actors
