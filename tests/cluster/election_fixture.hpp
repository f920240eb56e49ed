// One election, told by hand what happens.
#pragma once

#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "cluster/election.hpp"
#include "cluster/placement.hpp"

namespace outlast::cluster::testing {

using namespace election;

inline constexpr ShardId shard_count = 4;
inline const std::vector<std::string> all_nodes = {"a", "b", "c"};

inline Incarnation incarnation_of(const std::string& node) {
  Incarnation incarnation;
  incarnation.bytes[0] = static_cast<std::uint8_t>(node.front());
  return incarnation;
}

// A node among "a", "b" and "c".
struct Fixture {
  ManualClock clock;
  std::string me;
  Election election;
  std::vector<Effect> effects;
  CoordinationView view;
  std::vector<Member> members;
  LeaseId lease = 70;

  explicit Fixture(std::string node) : me(std::move(node)), election(options(me), clock, 1) {
    for (const std::string& name : all_nodes) {
      members.push_back({name, NodeState::active, {"ledger"}});
      view.nodes.push_back(presence(name));
    }
    election.set_members(members);
    go();
  }

  static ElectionOptions options(const std::string& node) {
    ElectionOptions options;
    options.node = node;
    options.incarnation = incarnation_of(node);
    options.shards = shard_count;
    return options;
  }
  static Presence presence(const std::string& node) {
    Presence presence;
    presence.node = node;
    presence.incarnation = incarnation_of(node);
    presence.roles = {"ledger"};
    return presence;
  }

  void go() {
    election.tick();
    for (Effect& effect : election.take_effects()) effects.push_back(std::move(effect));
  }
  void wait_ms(std::int64_t ms) {
    clock.advance_ms(ms);
    go();
  }
  // As time passes while all is well: the lease is kept, and the shards' threads report.
  void live_ms(std::int64_t ms) {
    for (; ms > 0; ms -= 500) {
      election.kept_alive(lease, clock.monotonic_ns(), {});
      for (const ShardStatus& status : election.status()) {
        if (status.following) election.own_progress(status.shard, 1'000, 1'000);
      }
      wait_ms(std::min<std::int64_t>(ms, 500));
    }
  }
  template <class Kind>
  std::vector<Kind> take() {
    std::vector<Kind> found;
    for (const Effect& effect : effects) {
      if (const auto* kind = std::get_if<Kind>(&effect)) found.push_back(*kind);
    }
    std::erase_if(effects, [](const Effect& effect) { return std::holds_alternative<Kind>(effect); });
    return found;
  }
  void see() {
    ++view.revision;
    clock.advance_ms(1);
    election.set_view(clock.monotonic_ns(), view);
    go();
  }
  // Everyone else owns everything, so that nothing is vacant but what a test makes so.
  void owned_by(ShardId shard, const std::string& node, std::uint64_t epoch) {
    std::erase_if(view.owners, [shard](const Ownership& owner) { return owner.shard == shard; });
    if (!node.empty()) view.owners.push_back({shard, node, incarnation_of(node), epoch});
  }
  void hold() {
    const auto start = take<StartLease>();
    REQUIRE(start.size() == 1);
    election.lease_started(start.front().attempt, clock.monotonic_ns(), lease);
    const std::string other = me == "a" ? "b" : "a";
    for (ShardId shard = 0; shard < shard_count; ++shard) owned_by(shard, other, 10);
    owned_by(control_shard, other, 10);
    see();
    for (ShardId shard = 0; shard < shard_count; ++shard) election.own_progress(shard, 1'000, 1'000);
    election.own_progress(control_shard, 1'000, 1'000);
    go();
    effects.clear();
  }
  // Claims a vacant shard and leads it.
  void lead(ShardId shard, std::uint64_t epoch) {
    owned_by(shard, "", 0);
    see();
    live_ms(20'000);
    REQUIRE(take<Claim>().size() == 1);
    election.claimed(shard, lease, epoch);
    go();
    REQUIRE(take<CatchUp>().size() == 1);
    election.caught_up(shard, epoch);
    go();
    REQUIRE(take<Lead>().size() == 1);
    owned_by(shard, me, epoch);
    see();
    effects.clear();
    REQUIRE(election.leads(shard) == epoch);
  }
  void reports(const std::string& node, ShardId shard, std::uint64_t applied, bool takes = true) {
    election.peer_progress(node, incarnation_of(node), {shard, applied, takes});
    go();
  }
};

inline std::string best_of(ShardId shard) { return rank(shard, all_nodes)[0]; }
inline std::string second_of(ShardId shard) { return rank(shard, all_nodes)[1]; }

}  // namespace outlast::cluster::testing
