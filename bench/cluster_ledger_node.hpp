// A node of bench/cluster_ledger_bench.cpp, as a process of its own that takes orders by lines.
#pragma once

#include <string>
#include <vector>

#include "cluster/shard_id.hpp"

namespace outlast::bench {

struct LedgerNodeOptions {
  std::size_t number = 0;  // 0 founds
  std::string folder;
  std::vector<std::string> etcd;
  std::vector<std::string> endpoints;  // of all nodes
  std::vector<std::string> public_keys;  // likewise; these and the next come on the first line of what it is told
  std::string secret_key;
  cluster::ShardId shards = 4;
  std::size_t in_flight = 512;  // requests
};

inline constexpr std::size_t quantiles = 1'000;  // of times that a node tells

// Orders, and what is said to each, one line:
//   ready        the node runs, and has shards with owners and money: "ready"
//   load SECONDS operations refused from_slices, then `quantiles` times from submission to durability, in us
//   status       applied entries of each shard's replica here
//   commits      batches appended here, how long they took in all in us, then their histogram
//   cpu          user and system time so far, in s
int run_ledger_node(LedgerNodeOptions options);

}  // namespace outlast::bench
