#include "cluster/placement.hpp"

#include <algorithm>
#include <utility>

#include "core/crypto.hpp"

namespace outlast::cluster {
namespace {

// SplitMix64's finalizer: every bit of the input changes half of the output's.
std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

}  // namespace

std::uint64_t placement_hash(std::string_view node) {
  const Digest digest = sha256(node);
  std::uint64_t hash = 0;
  for (std::size_t i = 0; i < 8; ++i) hash = hash << 8 | digest[i];
  return hash;
}

std::uint64_t placement_weight(ShardId shard, std::uint64_t node_hash) {
  return mix(node_hash ^ mix((std::uint64_t{shard} + 1) * 0x9e3779b97f4a7c15ULL));
}

std::vector<std::string> rank(ShardId shard, std::vector<std::string> candidates) {
  std::vector<std::pair<std::uint64_t, std::string>> weighted;
  weighted.reserve(candidates.size());
  for (std::string& node : candidates) {
    const std::uint64_t weight = placement_weight(shard, placement_hash(node));
    weighted.emplace_back(weight, std::move(node));
  }
  std::sort(weighted.begin(), weighted.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  std::vector<std::string> ranked;
  ranked.reserve(weighted.size());
  for (auto& [weight, node] : weighted) ranked.push_back(std::move(node));
  return ranked;
}

std::vector<std::string> replicas(ShardId shard, std::vector<std::string> candidates, std::size_t count) {
  std::vector<std::string> ranked = rank(shard, std::move(candidates));
  if (shard != control_shard && ranked.size() > count) ranked.resize(count);
  return ranked;
}

}  // namespace outlast::cluster
