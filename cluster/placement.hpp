// Placement: which nodes replicate a shard, and which of them should own it. Rendezvous hashing (Thaler, Ravishankar
// 1998): every node computes the same order from the same names; a node that joins takes shards only for itself, and
// those of a node that leaves spread over all others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/shard_id.hpp"

namespace outlast::cluster {

// The first 8 bytes of SHA-256 of the name: made once per node, not once per shard and node.
std::uint64_t placement_hash(std::string_view node);
// Higher is better. The same in every version for as long as clusters live: it decides where data is.
std::uint64_t placement_weight(ShardId shard, std::uint64_t node_hash);

// All candidates, best first; equal weights go by name. The order in which they are given does not matter.
std::vector<std::string> rank(ShardId shard, std::vector<std::string> candidates);
// The best `count` of them, best first. Of the control shard: all, because every node goes by it.
std::vector<std::string> replicas(ShardId shard, std::vector<std::string> candidates, std::size_t count);

}  // namespace outlast::cluster
