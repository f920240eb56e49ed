// What a node says of itself and of its GPU workers, as plain values that other nodes and people read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/id.hpp"

namespace outlast {

// A process that holds a GPU and works for whoever asks it.
struct WorkerDescription {
  std::string name;    // unique on its node; without '/'
  std::string device;  // as its driver calls it
  std::uint64_t memory_bytes = 0;
  std::vector<std::string> capabilities;  // what it can be asked for
  bool operator==(const WorkerDescription&) const = default;
};

// One shard of the ledger as a node holds it.
struct ShardReport {
  std::uint16_t shard = 0;  // cluster/shard_id.hpp
  bool owned = false;       // else followed
  std::uint64_t applied_index = 0;
  std::uint64_t lag_entries = 0;  // in the shared log and not yet applied here
  bool operator==(const ShardReport&) const = default;
};

struct NodeReport {
  std::string name;
  std::vector<std::string> roles;
  Incarnation incarnation;
  std::string software;  // its version
  bool draining = false;
  std::uint64_t requests_in_flight = 0;
  std::vector<ShardReport> shards;
  std::vector<WorkerDescription> workers;  // its own
  bool operator==(const NodeReport&) const = default;
};

}  // namespace outlast
