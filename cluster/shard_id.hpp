// Shards: a cluster's ledger is cut into shards by organisation, so that several nodes can own a part each; and one more
// ledger, the control log, holds what all nodes go by (nodes, keys, budgets, commitments, breakers, prices, settings).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace outlast::cluster {

using ShardId = std::uint16_t;
inline constexpr ShardId control_shard = 0xffff;
inline constexpr ShardId shards_max = 1'024;

// "s000" … "s1023", "control": in keys of etcd, folders and metrics.
std::string name_of_shard(ShardId shard);
// Any text gives a shard or false.
bool parse_shard(std::string_view name, ShardId& shard);
// "0" … "1023", "control": as people write it, in commands and in the admin API.
std::string label_of_shard(ShardId shard);
// As parse_shard().
bool parse_shard_label(std::string_view label, ShardId& shard);
// Where an organisation's requests are entered: the same for as long as the cluster lives. `shards`: how many there are.
ShardId shard_of(std::string_view organisation, ShardId shards);

}  // namespace outlast::cluster
