#include "cluster/placement.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/random.hpp"

namespace placement_test {

using namespace outlast;
using namespace outlast::cluster;

namespace {

std::vector<std::string> nodes_named(std::size_t count, std::uint64_t seed) {
  Random random(seed);
  std::set<std::string> names;
  while (names.size() < count) names.insert("node-" + std::to_string(random.below(1'000'000)));
  return {names.begin(), names.end()};
}

std::vector<std::string> without(std::vector<std::string> nodes, const std::string& node) {
  std::erase(nodes, node);
  return nodes;
}

}  // namespace

TEST_CASE("Placement is the same in every version", "[placement]") {
  // As clusters have placed their shards; a change here moves the data of all of them.
  CHECK(placement_hash("alpha") == 0x8ed3f6ad685b959eULL);
  CHECK(placement_weight(0, placement_hash("alpha")) == 0x3c708cf235454a81ULL);
  CHECK(placement_weight(1'023, placement_hash("alpha")) == 0x10ac09c9a11ddf36ULL);
  CHECK(placement_weight(control_shard, placement_hash("alpha")) == 0x818b2dc2531dcb80ULL);
  std::string owners;
  for (ShardId shard = 0; shard < 16; ++shard) owners += rank(shard, {"alpha", "beta", "gamma"}).front().front();
  CHECK(owners == "gbgbggabgaababgb");
}

TEST_CASE("A rank holds every candidate once, whatever order they come in", "[placement]") {
  auto nodes = nodes_named(12, 1);
  const auto ranked = rank(5, nodes);
  CHECK(std::set<std::string>(ranked.begin(), ranked.end()) == std::set<std::string>(nodes.begin(), nodes.end()));
  std::reverse(nodes.begin(), nodes.end());
  CHECK(rank(5, nodes) == ranked);
  CHECK(rank(5, {}).empty());
}

TEST_CASE("Replicas are the first of the rank, and of the control shard all", "[placement]") {
  const auto nodes = nodes_named(7, 2);
  const auto ranked = rank(3, nodes);
  CHECK(replicas(3, nodes, 3) == std::vector<std::string>(ranked.begin(), ranked.begin() + 3));
  CHECK(replicas(3, {"only"}, 3) == std::vector<std::string>{"only"});
  CHECK(replicas(control_shard, nodes, 3) == rank(control_shard, nodes));
}

TEST_CASE("A node that joins takes shards only for itself", "[placement]") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    auto nodes = nodes_named(2 + seed % 20, seed);
    const std::string joining = "joining-" + std::to_string(seed);
    auto more = nodes;
    more.push_back(joining);
    for (ShardId shard = 0; shard < 64; ++shard) {
      const auto before = rank(shard, nodes);
      const auto after = rank(shard, more);
      // Leaving is the same, seen from the other side.
      REQUIRE(without(after, joining) == before);
      const auto old_replicas = replicas(shard, nodes, 3);
      std::size_t fresh = 0;
      for (const std::string& node : replicas(shard, more, 3)) {
        if (std::find(old_replicas.begin(), old_replicas.end(), node) == old_replicas.end()) {
          REQUIRE(node == joining);
          ++fresh;
        }
      }
      REQUIRE(fresh <= 1);
    }
  }
}

TEST_CASE("Shards spread evenly over nodes", "[placement]") {
  constexpr ShardId shards = 1'024;
  for (const std::size_t count : {3, 10, 50}) {
    const auto nodes = nodes_named(count, count);
    std::map<std::string, int> owned;
    std::map<std::string, int> held;
    for (ShardId shard = 0; shard < shards; ++shard) {
      const auto best = replicas(shard, nodes, 3);
      ++owned[best.front()];
      for (const std::string& node : best) ++held[node];
    }
    // A fair draw: within four standard deviations of the mean.
    const double share = static_cast<double>(shards) / static_cast<double>(count);
    for (const std::string& node : nodes) {
      INFO(node << " of " << count);
      CHECK(owned[node] > share - 4 * std::sqrt(share) - 1);
      CHECK(owned[node] < share + 4 * std::sqrt(share) + 1);
      CHECK(held[node] > 3 * share - 4 * std::sqrt(3 * share) - 1);
      CHECK(held[node] < 3 * share + 4 * std::sqrt(3 * share) + 1);
    }
  }
}

TEST_CASE("The shards of a node that leaves spread over all others", "[placement]") {
  const auto nodes = nodes_named(6, 9);
  const auto fewer = without(nodes, nodes.front());
  std::set<std::string> heirs;
  for (ShardId shard = 0; shard < 256; ++shard) {
    if (rank(shard, nodes).front() == nodes.front()) heirs.insert(rank(shard, fewer).front());
  }
  CHECK(heirs.size() == fewer.size());
}

}  // namespace placement_test
