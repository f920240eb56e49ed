#include "cluster/election.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

#include "cluster/placement.hpp"

using namespace outlast;
using namespace outlast::cluster;
using namespace outlast::cluster::election;

namespace {

constexpr ShardId shard_count = 4;
const std::vector<std::string> all_nodes = {"a", "b", "c"};

Incarnation incarnation_of(const std::string& node) {
  Incarnation incarnation;
  incarnation.bytes[0] = static_cast<std::uint8_t>(node.front());
  return incarnation;
}

// One election, told by hand what happens.
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

std::string best_of(ShardId shard) { return rank(shard, all_nodes)[0]; }
std::string second_of(ShardId shard) { return rank(shard, all_nodes)[1]; }

}  // namespace

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
  f.live_ms(31'000);
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
  CHECK(f.take<EndLease>().size() == 1);
  CHECK(f.take<Stopped>().size() == 1);
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
}
