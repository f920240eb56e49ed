// WorkerTable: which GPU workers the cluster has, as this node knows it. Without actors or links.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/id.hpp"
#include "core/node_report.hpp"
#include "core/result.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::actors {

struct PlacedWorker {
  std::string node;
  WorkerDescription worker;
  bool operator==(const PlacedWorker&) const = default;
};

// One owner.
class WorkerTable {
 public:
  explicit WorkerTable(std::string node) : node_(std::move(node)) {}

  // Of this node. Errors: ActorError (refused: a bad or taken name; overloaded: as many as a node may have).
  Result<void> add(WorkerDescription worker);
  // False when there is none of that name.
  bool remove(const std::string& name);
  // All workers of this node, under a version that grows with each change: hearing it twice or late does no harm.
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
  using ByName = std::map<std::string, WorkerDescription>;
  struct Announced {
    Incarnation incarnation;
    std::uint64_t version = 0;
    ByName workers;
  };
  [[nodiscard]] const ByName* workers_of(const std::string& node) const;

  const std::string node_;
  std::uint64_t version_ = 0;
  ByName own_;
  std::map<std::string, Announced> others_;
};

}  // namespace outlast::actors
