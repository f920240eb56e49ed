#include "cluster/shard_id.hpp"

#include <charconv>
#include <cstdio>

#include "core/crypto.hpp"

namespace outlast::cluster {

std::string name_of_shard(ShardId shard) {
  if (shard == control_shard) return "control";
  char text[8];
  std::snprintf(text, sizeof text, "s%03u", static_cast<unsigned>(shard));
  return text;
}

bool parse_shard(std::string_view name, ShardId& shard) {
  if (name == "control") {
    shard = control_shard;
    return true;
  }
  if (name.size() < 4 || name.front() != 's') return false;
  unsigned number = 0;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), number);
  if (error != std::errc() || end != name.data() + name.size() || number >= shards_max) return false;
  shard = static_cast<ShardId>(number);
  return name == name_of_shard(shard);
}

std::string label_of_shard(ShardId shard) { return shard == control_shard ? "control" : std::to_string(shard); }

bool parse_shard_label(std::string_view label, ShardId& shard) {
  if (label == "control") {
    shard = control_shard;
    return true;
  }
  unsigned number = 0;
  const auto [end, error] = std::from_chars(label.data(), label.data() + label.size(), number);
  if (error != std::errc() || end != label.data() + label.size() || number >= shards_max) return false;
  shard = static_cast<ShardId>(number);
  return label == label_of_shard(shard);
}

ShardId shard_of(std::string_view organisation, ShardId shards) {
  const Digest digest = Sha256().update(organisation).finish();
  std::uint64_t hash = 0;
  for (int i = 0; i < 8; ++i) hash = hash << 8 | static_cast<std::uint8_t>(digest[static_cast<std::size_t>(i)]);
  return static_cast<ShardId>(hash % shards);
}

}  // namespace outlast::cluster
