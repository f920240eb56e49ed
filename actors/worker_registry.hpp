// WorkerRegistry: the GPU workers of the whole cluster, each usable from every node. A worker registers with its own node
// as a local actor; the node tells all others, and they reach it through a remote proxy.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "actors/interfaces.hpp"
#include "actors/peer_port.hpp"
#include "actors/remote_actor.hpp"
#include "core/node_report.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::actors {

struct PlacedWorker {
  std::string node;
  WorkerDescription worker;
  bool operator==(const PlacedWorker&) const = default;
};

// Which workers there are, without actors or links. One owner.
class WorkerTable {
 public:
  explicit WorkerTable(std::string node) : node_(std::move(node)) {}

  // Of this node. Errors: ActorError (refused: a bad or taken name; overloaded: as many as a node may have).
  Result<void> add(WorkerDescription worker);
  // False when there is none of that name.
  bool remove(const std::string& name);
  // All workers of this node, under a version that grows with each change: telling it twice or late does no harm.
  [[nodiscard]] ask::Workers announcement() const;

  // What another node announced. False when nothing changed: the version is not newer than what that incarnation said.
  bool heard(const std::string& node, const Incarnation& incarnation, ask::Workers announcement);
  // The node's workers are gone. False when it had none.
  bool forget(const std::string& node);

  // By node and name.
  [[nodiscard]] std::vector<PlacedWorker> workers() const;
  // `name` is NODE/WORKER, or a worker's name that only one node of the cluster has. Errors: ActorError (not_found;
  // refused: several nodes have one).
  [[nodiscard]] Result<PlacedWorker> find(const std::string& name) const;

 private:
  struct Announced {
    Incarnation incarnation;
    std::uint64_t version = 0;
    std::vector<WorkerDescription> workers;  // by name
  };
  const std::string node_;
  std::uint64_t version_ = 0;
  std::map<std::string, WorkerDescription> own_;
  std::map<std::string, Announced> others_;
};

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
  [[nodiscard]] Result<GpuWorker> worker(const std::string& name) const;

 private:
  class Core;
  const std::shared_ptr<Core> core_;  // shared with what watches the actors of workers
};

}  // namespace outlast::actors
