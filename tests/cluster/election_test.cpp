#include <catch2/catch.hpp>

#include <algorithm>

#include "cluster/coordinator.hpp"
#include "tests/cluster/election_fixture.hpp"

namespace election_test {

using namespace outlast;
using namespace outlast::cluster;
using namespace outlast::cluster::election;
using namespace outlast::cluster::testing;

TEST_CASE("Views of a few nodes are read at once and each second, and of many so that etcd bears it", "[election]") {
  constexpr std::int64_t ms = 1'000'000;
  CHECK(view_gap_ns(0) == 0);
  CHECK(view_gap_ns(3) == 3 * ms);
  CHECK(view_gap_ns(100'000) == 1'000 * ms);
  CHECK(view_interval_ns(0) == 1'000 * ms);
  CHECK(view_interval_ns(3) == 1'000 * ms);
  CHECK(view_interval_ns(100) == 3'000 * ms);
  CHECK(view_interval_ns(100'000) == 30'000 * ms);
}

TEST_CASE("The best placed node claims a vacant shard at once, and leads when it has read the log", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.owned_by(0, "", 0);
  f.see();
  const auto claims = f.take<Claim>();
  REQUIRE(claims.size() == 1);
  CHECK(claims[0].shard == 0);
  CHECK(claims[0].lease == f.lease);
  f.election.claimed(0, f.lease, 20);
  f.go();
  REQUIRE(f.take<CatchUp>().size() == 1);
  CHECK(f.take<Lead>().empty());
  CHECK_FALSE(f.election.leads(0));
  f.election.caught_up(0, 19);  // another epoch's answer
  f.go();
  CHECK(f.take<Lead>().empty());
  f.election.caught_up(0, 20);
  f.go();
  const auto leads = f.take<Lead>();
  REQUIRE(leads.size() == 1);
  CHECK(leads[0].epoch == 20);
  CHECK(f.election.leads(0) == std::uint64_t{20});
}

TEST_CASE("Each other node waits longer, in the order of placement", "[election]") {
  for (const std::size_t place : {1, 2}) {
    Fixture f(rank(0, all_nodes)[place]);
    f.hold();
    f.owned_by(0, "", 0);
    f.see();
    f.wait_ms(static_cast<std::int64_t>(place) * 500 - 1);
    CHECK(f.take<Claim>().empty());
    f.wait_ms(1);
    CHECK(f.take<Claim>().size() == 1);
  }
}

TEST_CASE("A node far from the log's end leaves a shard to those who are closer, for a while", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.election.own_progress(0, 1'000, 50'000);
  f.reports(second_of(0), 0, 50'000);
  f.owned_by(0, "", 0);
  f.see();
  f.wait_ms(4'000);
  CHECK(f.take<Claim>().empty());
  f.live_ms(500);
  f.election.own_progress(0, 50'000, 50'000);
  f.go();
  CHECK(f.take<Claim>().size() == 1);
}

TEST_CASE("A node that does not replicate a shard, or has no ledger, does not claim it", "[election]") {
  Fixture f(best_of(0));
  f.members[static_cast<std::size_t>(f.me[0] - 'a')].roles = {"gateway"};
  f.election.set_members(f.members);
  f.hold();
  for (ShardId shard = 0; shard < shard_count; ++shard) f.owned_by(shard, "", 0);
  f.owned_by(control_shard, "", 0);
  f.see();
  f.live_ms(8'000);
  CHECK(f.take<Claim>().empty());
  CHECK(f.take<Follow>().empty());
  const auto status = f.election.status();
  CHECK(status.back().following);  // every node goes by the control shard
}

TEST_CASE("A shard whose replicas are all away is read by another node, after a time", "[election]") {
  Fixture f("a");
  f.hold();
  ElectionOptions options = Fixture::options("a");
  options.replicas = 1;
  Election election(options, f.clock, 1);
  election.set_members(f.members);
  std::erase_if(f.view.nodes, [](const Presence& presence) { return presence.node != "a"; });
  std::size_t followed = 0;
  const auto go = [&] {
    election.tick();
    for (const Effect& effect : election.take_effects()) {
      if (const auto* start = std::get_if<StartLease>(&effect)) {
        election.lease_started(start->attempt, f.clock.monotonic_ns(), LeaseId{1});
      }
      if (std::holds_alternative<KeepAlive>(effect)) election.kept_alive(1, f.clock.monotonic_ns(), {});
      followed += std::holds_alternative<Follow>(effect) ? 1 : 0;
    }
  };
  go();
  go();
  CHECK(followed == 1);  // the control shard; who lives is not known yet
  election.set_view(f.clock.monotonic_ns(), f.view);
  go();
  std::size_t best_here = 0;
  for (ShardId shard = 0; shard < shard_count; ++shard) best_here += best_of(shard) == "a" ? 1U : 0U;
  REQUIRE(best_here < shard_count);
  CHECK(followed == 1 + best_here);
  for (int i = 0; i < 19; ++i) {
    f.clock.advance_ms(1'000);
    go();
  }
  CHECK(followed == 1 + best_here);
  f.clock.advance_ms(1'000);
  go();
  CHECK(followed == 1 + shard_count);
}

TEST_CASE("After a claim without an answer the view tells, and what it tells is released", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.owned_by(0, "", 0);
  f.see();
  REQUIRE(f.take<Claim>().size() == 1);
  f.effects.clear();
  f.election.claimed(0, f.lease, fail(AgreementError::unknown, "timed out"));
  f.go();
  CHECK(f.take<LookAtView>().size() == 1);
  f.owned_by(0, f.me, 21);
  f.see();
  const auto releases = f.take<Release>();
  REQUIRE(releases.size() == 1);
  CHECK(releases[0].epoch == 21);
  CHECK_FALSE(f.election.leads(0));
  f.election.released(0, 21, {});
  f.owned_by(0, "", 0);
  f.see();
  f.wait_ms(200);
  CHECK(f.take<Claim>().size() == 1);
}

TEST_CASE("An epoch that comes after its lease was lost is released, not led", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.owned_by(0, "", 0);
  f.see();
  REQUIRE(f.take<Claim>().size() == 1);
  f.election.kept_alive(f.lease, f.clock.monotonic_ns(), fail(AgreementError::lease_lost, "gone"));
  f.go();
  const auto start = f.take<StartLease>();
  REQUIRE(start.size() == 1);
  f.election.lease_started(start[0].attempt, f.clock.monotonic_ns(), LeaseId{71});
  f.go();
  f.effects.clear();
  f.election.claimed(0, f.lease, 22);
  f.go();
  const auto releases = f.take<Release>();
  REQUIRE(releases.size() == 1);
  CHECK(releases[0].epoch == 22);
  CHECK(f.take<CatchUp>().empty());
}

TEST_CASE("A process that was paused past its deadline steps down before it does anything else", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.lead(0, 20);
  CHECK(f.election.lead_deadline_ns() > f.clock.monotonic_ns());
  f.clock.advance_ms(30'000);
  CHECK_FALSE(f.election.leads(0));  // before any tick
  f.go();
  REQUIRE(f.effects.size() >= 3);
  REQUIRE(std::holds_alternative<StepDown>(f.effects[0]));
  CHECK(std::get<StepDown>(f.effects[0]).why == Why::lease_lost);
  CHECK(std::holds_alternative<EndLease>(f.effects[1]));
  CHECK(std::holds_alternative<StartLease>(f.effects[2]));
  CHECK(f.election.lead_deadline_ns() == 0);
}

TEST_CASE("Effects that rely on a lease are not given out after it has ended", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.owned_by(0, "", 0);
  f.see();
  REQUIRE(f.take<Claim>().size() == 1);
  f.election.claimed(0, f.lease, 20);
  f.election.tick();
  f.election.caught_up(0, 20);
  f.election.tick();              // Lead is decided …
  f.clock.advance_ms(20'000);     // … and then the process sleeps
  const auto effects = f.election.take_effects();
  for (const Effect& effect : effects) {
    CHECK_FALSE(std::holds_alternative<Lead>(effect));
    CHECK_FALSE(std::holds_alternative<CatchUp>(effect));
  }
  const auto stops = std::count_if(effects.begin(), effects.end(),
                                   [](const Effect& effect) { return std::holds_alternative<StepDown>(effect); });
  CHECK(stops == 1);
}

TEST_CASE("A shard that another node owns by the view is given up; an older view says nothing", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.owned_by(0, "", 0);
  f.see();
  REQUIRE(f.take<Claim>().size() == 1);
  const std::int64_t before_ns = f.clock.monotonic_ns();
  f.clock.advance_ms(5);
  f.election.claimed(0, f.lease, 20);
  f.election.caught_up(0, 20);
  f.go();
  ++f.view.revision;
  f.election.set_view(before_ns, f.view);  // read before the claim, and late
  f.go();
  REQUIRE(f.election.leads(0) == std::uint64_t{20});
  f.owned_by(0, second_of(0), 25);
  f.see();
  const auto stops = f.take<StepDown>();
  REQUIRE(stops.size() == 1);
  CHECK(stops[0].why == Why::replaced);
  f.election.stepped_down(0, 20);
  f.go();
  CHECK(f.take<Release>().empty());
}

TEST_CASE("A presence that was lost is announced again", "[election]") {
  Fixture f("a");
  f.hold();
  std::erase_if(f.view.nodes, [](const Presence& presence) { return presence.node == "a"; });
  f.see();
  const auto announced = f.take<Announce>();
  REQUIRE(announced.size() == 1);
  CHECK(announced[0].takes_shards);
  f.election.announced(true, fail(AgreementError::unavailable, "nobody answers"));
  f.wait_ms(200);
  CHECK(f.take<Announce>().size() == 1);
  f.election.announced(true, {});
  f.wait_ms(1'000);
  CHECK(f.take<Announce>().empty());
}

TEST_CASE("The log may be trimmed below what every live replica has applied", "[election]") {
  Fixture f("a");
  f.hold();
  CHECK(f.election.lowest_applied(0) == std::nullopt);
  f.reports("b", 0, 900);
  CHECK(f.election.lowest_applied(0) == std::nullopt);
  f.reports("c", 0, 950);
  CHECK(f.election.lowest_applied(0) == std::uint64_t{900});
  std::erase_if(f.view.nodes, [](const Presence& presence) { return presence.node == "b"; });
  f.see();
  CHECK(f.election.lowest_applied(0) == std::uint64_t{950});
  // Every node goes by the control shard, also one without ledgers.
  f.members.push_back({"gateway", NodeState::active, {"gateway"}});
  f.view.nodes.push_back(Fixture::presence("gateway"));
  f.election.set_members(f.members);
  f.see();
  f.reports("c", control_shard, 400);
  CHECK(f.election.lowest_applied(control_shard) == std::nullopt);
  f.reports("gateway", control_shard, 300);
  CHECK(f.election.lowest_applied(control_shard) == std::uint64_t{300});
}

}  // namespace election_test
