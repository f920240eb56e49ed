#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/cluster/election_fixture.hpp"

namespace election_handover_test {

using namespace outlast;
using namespace outlast::cluster;
using namespace outlast::cluster::election;
using namespace outlast::cluster::testing;

TEST_CASE("A shard goes to a better placed node when that one is close, in one order", "[election]") {
  Fixture f(second_of(0));
  f.hold();
  f.lead(0, 20);
  const std::string best = best_of(0);
  f.election.own_progress(0, 100'000, 100'000);
  f.reports(best, 0, 1'000);
  CHECK(f.take<StepDown>().empty());  // too far behind
  f.reports(best, 0, 99'000, false);
  CHECK(f.take<StepDown>().empty());  // it does not take it
  f.election.peer_suspected(best, true);
  f.reports(best, 0, 99'000);
  CHECK(f.take<StepDown>().empty());  // its links are down
  f.election.peer_suspected(best, false);
  f.go();
  const auto stops = f.take<StepDown>();
  REQUIRE(stops.size() == 1);
  CHECK(stops[0].why == Why::handover);
  CHECK_FALSE(f.election.leads(0));
  CHECK(f.take<Release>().empty());
  f.election.stepped_down(0, 20);
  f.go();
  REQUIRE(f.take<Release>().size() == 1);
  CHECK(f.take<Tell>().empty());
  f.election.released(0, 20, {});
  f.go();
  const auto tells = f.take<Tell>();
  REQUIRE(tells.size() == 1);
  CHECK(tells[0].node == best);
  // It is taken: nothing more happens here.
  f.owned_by(0, best, 30);
  f.see();
  f.live_ms(10'000);
  CHECK(f.take<Claim>().empty());
}

TEST_CASE("A former owner takes a shard back that its successor does not claim, and does not try it again soon",
          "[election]") {
  Fixture f(second_of(0));
  f.hold();
  f.lead(0, 20);
  f.reports(best_of(0), 0, 1'000);
  REQUIRE(f.take<StepDown>().size() == 1);
  f.election.stepped_down(0, 20);
  f.go();
  f.election.released(0, 20, {});
  f.owned_by(0, "", 0);
  f.see();
  f.live_ms(1'000);
  CHECK(f.take<Claim>().empty());
  f.live_ms(1'000);
  REQUIRE(f.take<Claim>().size() == 1);
  f.election.claimed(0, f.lease, 40);
  f.go();
  f.election.caught_up(0, 40);
  f.owned_by(0, f.me, 40);
  f.see();
  f.effects.clear();
  f.reports(best_of(0), 0, 1'000);
  CHECK(f.take<StepDown>().empty());
  f.live_ms(4'000);
  f.reports(best_of(0), 0, 1'000);
  CHECK(f.take<StepDown>().empty());
  f.live_ms(1'500);
  f.reports(best_of(0), 0, 1'000);
  CHECK(f.take<StepDown>().size() == 1);
}

TEST_CASE("A node that is told of a shard claims it, whatever its view still says", "[election]") {
  Fixture f(rank(0, all_nodes)[2]);
  f.hold();
  f.election.told(0);
  f.go();
  CHECK(f.take<Claim>().size() == 1);
}

TEST_CASE("A node gives only a few shards at a time", "[election]") {
  Fixture f("a");
  f.hold();
  std::vector<ShardId> led;
  for (ShardId shard = 0; shard < shard_count; ++shard) {
    f.lead(shard, 20U + shard);
    led.push_back(shard);
  }
  f.election.drain();
  f.go();
  for (const ShardId shard : led) {
    f.reports("b", shard, 1'000);
    f.reports("c", shard, 1'000);
  }
  const auto stops = f.take<StepDown>();
  CHECK(stops.size() == 2);
  CHECK(f.take<Announce>().size() == 1);
  f.election.stepped_down(stops[0].shard, stops[0].epoch);
  f.go();
  f.election.released(stops[0].shard, stops[0].epoch, {});
  f.go();
  CHECK(f.take<StepDown>().empty());  // until it is taken
  f.owned_by(stops[0].shard, f.take<Tell>()[0].node, 50);
  f.see();
  f.go();
  CHECK(f.take<StepDown>().size() == 1);
}

TEST_CASE("A node that is thrown out stops owning, and ends its lease when its shards have stopped", "[election]") {
  for (const NodeState state : {NodeState::removed, NodeState::revoked}) {
    Fixture f(best_of(0));
    f.hold();
    f.lead(0, 20);
    f.members[static_cast<std::size_t>(f.me[0] - 'a')].state = state;
    f.election.set_members(f.members);
    f.go();
    REQUIRE(f.take<StepDown>().size() == 1);
    CHECK_FALSE(f.election.leads(0));
    CHECK(f.take<EndLease>().empty());
    f.election.stepped_down(0, 20);
    f.go();
    CHECK(f.take<EndLease>().size() == 1);
    f.wait_ms(60'000);
    CHECK(f.take<StartLease>().empty());
  }
}

TEST_CASE("A shard that does not stop is released after a time: its epoch is refused", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.lead(0, 20);
  f.election.stop();
  f.go();
  REQUIRE(f.take<StepDown>().size() == 1);
  f.wait_ms(4'999);
  CHECK(f.take<Stopped>().empty());
  f.wait_ms(1);
  f.go();
  REQUIRE(!f.effects.empty());
  CHECK(std::holds_alternative<Stopped>(f.effects.back()));
  CHECK(f.take<EndLease>().size() == 1);
}

TEST_CASE("A shard that reports nothing is taken from its thread, and offered to others", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.lead(0, 20);
  for (int i = 0; i < 20; ++i) {
    f.election.kept_alive(f.lease, f.clock.monotonic_ns(), {});
    f.wait_ms(1'000);
  }
  const auto stops = f.take<StepDown>();
  REQUIRE(stops.size() == 1);
  CHECK(stops[0].why == Why::hung);
  f.wait_ms(5'000);
  f.go();
  CHECK(f.take<Release>().size() == 1);
}

TEST_CASE("A shard that failed here is released, and not claimed again at once", "[election]") {
  Fixture f(best_of(0));
  f.hold();
  f.lead(0, 20);
  f.election.failed(0, 20);
  f.go();
  REQUIRE(f.take<Release>().size() == 1);
  const auto report = f.election.progress_report();
  const auto mine = std::find_if(report.begin(), report.end(), [](const auto& each) { return each.shard == 0; });
  REQUIRE(mine != report.end());
  CHECK_FALSE(mine->takes);
  f.election.released(0, 20, {});
  f.owned_by(0, "", 0);
  f.see();
  f.wait_ms(900);
  CHECK(f.take<Claim>().empty());
  f.wait_ms(200);
  CHECK(f.take<Claim>().size() == 1);
}

}  // namespace election_handover_test
