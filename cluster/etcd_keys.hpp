// Where things are in etcd. Presences, owners and tails lie beside each other and the logs before them, so that one
// watch sees all that changes without the logs' bytes, and one range gives a view.
//
//   /outlast/CLUSTER/log/SHARD/LAST-FIRST   a batch (batch_codec.hpp); indexes of 20 digits
//   /outlast/CLUSTER/nodes/NAME             a presence, on the node's lease
//   /outlast/CLUSTER/owners/SHARD           an owner, on its node's lease; the epoch is the key's create_revision
//   /outlast/CLUSTER/tails/SHARD            the index after the last entry, in decimal
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "cluster/shard_id.hpp"

namespace outlast::cluster {

class EtcdKeys {
 public:
  // `cluster`: is_name().
  explicit EtcdKeys(std::string_view cluster);
  // Letters, digits, '-', '_' and '.': what cluster and node names are made of.
  static bool is_name(std::string_view name);

  [[nodiscard]] std::string nodes() const { return root_ + "nodes/"; }
  [[nodiscard]] std::string node(std::string_view name) const { return nodes().append(name); }
  [[nodiscard]] std::string owners() const { return root_ + "owners/"; }
  [[nodiscard]] std::string owner(ShardId shard) const { return owners() + name_of_shard(shard); }
  [[nodiscard]] std::string tails() const { return root_ + "tails/"; }
  [[nodiscard]] std::string tail(ShardId shard) const { return tails() + name_of_shard(shard); }
  [[nodiscard]] std::string log(ShardId shard) const { return root_ + "log/" + name_of_shard(shard) + "/"; }
  // Not before the batch that holds `index`, and before the next one.
  [[nodiscard]] std::string batches_from(ShardId shard, std::uint64_t index) const;
  [[nodiscard]] std::string batch(ShardId shard, std::uint64_t first, std::uint64_t next) const;
  // Of a key of `shard`'s log. False for anything else.
  bool parse_batch_key(ShardId shard, std::string_view key, std::uint64_t& first, std::uint64_t& next) const;

 private:
  std::string root_;
};

}  // namespace outlast::cluster
