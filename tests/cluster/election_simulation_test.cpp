#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <tuple>

#include "cluster/placement.hpp"
#include "tests/cluster/election_world.hpp"

namespace election_simulation_test {

using namespace outlast;
using namespace outlast::cluster;
using namespace outlast::cluster::testing;

namespace {

WorldOptions options_of(std::uint64_t seed) {
  WorldOptions options;
  options.seed = seed;
  options.election.ttl_s = 4;
  options.election.hang_ms_max = 5'000;
  options.election.catch_up_ms_max = 3'000;
  options.election.step_down_ms_max = 2'000;
  options.election.distrust_ms = 2'000;
  options.election.distrust_ms_max = 8'000;
  options.election.failure_ms_max = 8'000;
  options.election.replace_after_ms = 15'000;
  options.election.abandoned_ms = 5'000;
  options.election.drop_after_ms = 5'000;
  return options;
}

std::string name_of_node(std::size_t number) { return "node-" + std::to_string(number); }

// Random faults until the virtual time is over; nothing is awaited between them.
class Faults {
 public:
  explicit Faults(World& world) : world_(world) {}

  void run_ms(std::int64_t ms) {
    const std::int64_t end_ms = world_.now_ms() + ms;
    while (world_.now_ms() < end_ms) {
      world_.run_ms(static_cast<std::int64_t>(world_.random().below(1'500)));
      one();
    }
  }

 private:
  std::string any() {
    const auto names = world_.names();
    return names[world_.random().below(names.size())];
  }
  ShardId any_shard() {
    const auto shards = world_.shards();
    return shards[world_.random().below(shards.size())];
  }

  void one() {
    const std::string node = any();
    const bool up = world_.up(node);
    switch (world_.random().below(13)) {
      case 0: if (up) world_.crash(node); break;
      case 1:
      case 2: if (!up) world_.start(node); break;
      case 3: if (up) world_.pause(node, true); break;
      case 4:
      case 5: if (up) world_.pause(node, false); break;
      case 6: world_.cut(node, world_.random().below(3) == 0); break;
      case 7: {
        const std::string other = any();
        if (other != node) world_.part(node, other, world_.random().below(2) == 0);
        break;
      }
      case 8: world_.hang(node, any_shard(), world_.random().below(2) == 0); break;
      case 9: world_.fail_shard(node, any_shard()); break;
      case 10: world_.change_coordination_leader(); break;
      case 11: leave(node, up); break;
      default: join(); break;
    }
  }

  void leave(const std::string& node, bool up) {
    switch (world_.random().below(4)) {
      case 0: world_.set_state(node, NodeState::draining); break;
      case 1: world_.set_state(node, world_.random().below(2) == 0 ? NodeState::removed : NodeState::revoked); break;
      case 2: if (up) world_.drain(node); break;
      default: if (up) world_.stop(node); break;
    }
  }

  void join() {
    if (joined_ < 3) world_.add("late-" + std::to_string(joined_++));
  }

  World& world_;
  std::size_t joined_ = 0;
};

bool settles(World& world, std::int64_t ms) {
  return world.run_until(ms, [&world] { return world.unsettled().empty(); });
}

void simulate(std::uint64_t seed) {
  WorldOptions options = options_of(seed);
  options.late_share = seed % 3 == 0 ? 0.03 : 0;
  World world(options);
  const std::size_t count = 1 + world.random().below(seed % 10 == 0 ? 30 : 9);
  for (std::size_t i = 0; i < count; ++i) {
    world.add(name_of_node(i), i % 5 == 4 ? std::vector<std::string>{"gateway"} : std::vector<std::string>{"ledger"});
  }
  Faults(world).run_ms(30'000);
  world.heal();
  // Whoever was taken in again or thrown out for good: the first node is always there.
  for (const std::string& node : world.names()) {
    if (node == name_of_node(0) || world.random().below(3) != 0) world.set_state(node, NodeState::active);
  }
  const bool settled = settles(world, 60'000);
  INFO("seed " << seed << ", " << count << " nodes: " << world.unsettled());
  REQUIRE(settled);
  // And it stays so.
  world.run_ms(options.late_share > 0 ? 8'000 : 0);  // what was under way may still land
  REQUIRE(world.unsettled().empty());
  world.take_counts();
  world.run_ms(5'000);
  REQUIRE(world.unsettled().empty());
  REQUIRE(world.take_counts().claims == 0);
}

// A cluster without faults, settled.
std::unique_ptr<World> quiet_world(std::uint64_t seed, std::size_t nodes) {
  WorldOptions options = options_of(seed);
  options.hint_loss = 0;
  auto world = std::make_unique<World>(options);
  for (std::size_t i = 0; i < nodes; ++i) world->add(name_of_node(i));
  REQUIRE(settles(*world, 30'000));
  world->take_counts();
  return world;
}

std::map<ShardId, std::uint64_t> epochs_of(const World& world) {
  std::map<ShardId, std::uint64_t> epochs;
  for (const ShardId shard : world.shards()) {
    if (const auto owner = world.owner(shard)) epochs[shard] = owner->epoch;
  }
  return epochs;
}

std::size_t led_by(const World& world, const std::string& node) {
  const auto shards = world.shards();
  return static_cast<std::size_t>(
      std::count_if(shards.begin(), shards.end(), [&](ShardId shard) { return world.leader(shard) == node; }));
}

// A release, a word to the successor, its claim: a few messages.
constexpr std::int64_t handover_ms_max = 60;

}  // namespace

TEST_CASE("Whatever happens, no two nodes believe to lead a shard, and afterwards the best placed do", "[election]") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) simulate(seed);
}

TEST_CASE("Ten thousand other seeds do no harm either", "[.slow][election]") {
  for (std::uint64_t seed = 1'000; seed < 11'000; ++seed) simulate(seed);
}

TEST_CASE("A node that joins gets its shards by handovers, and no other shard moves", "[election]") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const auto owned_world = quiet_world(seed, 2 + seed % 12);
    World& world = *owned_world;
    const auto before = epochs_of(world);
    world.add("joining");
    REQUIRE(settles(world, 60'000));
    std::size_t moved = 0;
    for (const auto& [shard, epoch] : epochs_of(world)) {
      INFO("seed " << seed << ", " << name_of_shard(shard));
      if (world.leader(shard) == "joining") ++moved;
      else REQUIRE(epoch == before.at(shard));
    }
    const auto counts = world.take_counts();
    REQUIRE(counts.claims == moved);  // each moved once
    REQUIRE(counts.ownerless_ms_max <= handover_ms_max);
  }
}

TEST_CASE("A node that drains hands over all that it owns, and then says so", "[election]") {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    INFO("seed " << seed);
    const auto owned_world = quiet_world(seed, 2 + seed % 12);
    World& world = *owned_world;
    const std::string leaving = name_of_node(seed % 2);
    const std::size_t owned = led_by(world, leaving);
    const bool by_administrator = seed % 3 == 0;
    if (by_administrator) world.set_state(leaving, NodeState::draining);
    else world.drain(leaving);
    REQUIRE(world.run_until(20'000, [&] { return world.drained(leaving); }));
    REQUIRE(led_by(world, leaving) == 0);
    for (const ShardId shard : world.shards()) {
      REQUIRE(world.owner(shard));
      REQUIRE(world.owner(shard)->node != leaving);
    }
    auto counts = world.take_counts();
    REQUIRE(counts.claims >= owned);
    REQUIRE(counts.ownerless_ms_max <= handover_ms_max);
    // It starts again, and gets its shards back in the same way.
    world.stop(leaving);
    REQUIRE(world.run_until(5'000, [&] { return world.stopped(leaving); }));
    world.crash(leaving);
    if (by_administrator) world.set_state(leaving, NodeState::active);
    world.start(leaving);
    REQUIRE(settles(world, 30'000));
    counts = world.take_counts();
    REQUIRE(counts.claims == owned);
    REQUIRE(counts.ownerless_ms_max <= handover_ms_max);
  }
}

TEST_CASE("The shards of a node that died, hangs or is cut off have another owner within twice the TTL", "[election]") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    const auto owned_world = quiet_world(seed, 3 + seed % 8);
    World& world = *owned_world;
    const std::string lost = name_of_node(seed % 3);
    std::vector<ShardId> shards = world.shards();
    std::erase_if(shards, [&](ShardId shard) { return world.leader(shard) != lost; });
    const auto before = epochs_of(world);
    if (seed % 3 == 0) world.crash(lost);
    if (seed % 3 == 1) world.pause(lost, true);
    if (seed % 3 == 2) world.cut(lost, true);
    REQUIRE(world.run_until(2 * 4'000 + 1'000, [&] {
      return std::all_of(shards.begin(), shards.end(), [&](ShardId shard) {
        const std::string leader = world.leader(shard);
        return !leader.empty() && leader != lost;
      });
    }));
    const auto after = epochs_of(world);
    for (const auto& [shard, epoch] : before) {
      if (std::find(shards.begin(), shards.end(), shard) == shards.end()) REQUIRE(after.at(shard) == epoch);
    }
    // After three TTLs it goes on, and leads nothing that it led before.
    world.run_ms(3 * 4'000);
    world.pause(lost, false);
    if (world.up(lost)) {
      for (const ShardId shard : shards) REQUIRE_FALSE(world.election(lost).leads(shard));
    }
    world.heal();
    REQUIRE(settles(world, 40'000));
  }
}

TEST_CASE("All nodes restart one after another without a failover", "[election]") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    INFO("seed " << seed);
    const auto owned_world = quiet_world(seed, 3 + seed % 4);
    World& world = *owned_world;
    for (const std::string& node : world.names()) {
      world.drain(node);
      REQUIRE(world.run_until(20'000, [&] { return world.drained(node); }));
      world.stop(node);
      REQUIRE(world.run_until(5'000, [&] { return world.stopped(node); }));
      world.crash(node);
      world.run_ms(2'000);
      world.start(node);
      REQUIRE(settles(world, 30'000));
    }
    REQUIRE(world.take_counts().ownerless_ms_max <= handover_ms_max);
  }
}

TEST_CASE("The last node of a cluster keeps its shards while it drains", "[election]") {
  const auto owned_world = quiet_world(3, 1);
  World& world = *owned_world;
  world.drain(name_of_node(0));
  world.run_ms(10'000);
  CHECK_FALSE(world.drained(name_of_node(0)));
  CHECK(led_by(world, name_of_node(0)) == world.shards().size());
}

TEST_CASE("A cluster in which nothing happens does little", "[election]") {
  const auto owned_world = quiet_world(5, 5);
  World& world = *owned_world;
  world.run_ms(60'000);
  const auto counts = world.take_counts();
  CHECK(counts.claims == 0);
  CHECK(counts.events < 5 * 60 * 12);  // per node and second: a report, and parts of keepalives and views
}

TEST_CASE("A seed replays identically", "[election]") {
  const auto run = [] {
    World world(options_of(11));
    for (std::size_t i = 0; i < 5; ++i) world.add(name_of_node(i));
    Faults(world).run_ms(20'000);
    const auto counts = world.take_counts();
    return std::tuple(counts.claims, counts.events, counts.ownerless_ms_max, world.random().next());
  };
  CHECK(run() == run());
}

}  // namespace election_simulation_test
