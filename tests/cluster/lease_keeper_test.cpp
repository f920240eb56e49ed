#include "cluster/lease_keeper.hpp"

#include <catch2/catch.hpp>

#include <algorithm>
#include <set>

#include "cluster/boot_clock.hpp"

namespace lease_keeper_test {

using namespace outlast;
using namespace outlast::cluster;
using namespace outlast::cluster::election;

namespace {

// A keeper with TTL 10 s (margin 1 s), its clock, and what it asks for.
struct Fixture {
  ManualClock clock;
  LeaseKeeper keeper{10, clock, 7};

  std::int64_t now_ns() const { return clock.monotonic_ns(); }
  Result<void> lost() const { return fail(AgreementError::lease_lost, "gone"); }
  Result<void> unavailable() const { return fail(AgreementError::unavailable, "nobody answers"); }

  // The only effect that is due.
  template <class Expected>
  Expected expect() {
    const auto effects = keeper.tick();
    REQUIRE(effects.size() == 1);
    REQUIRE(std::holds_alternative<Expected>(effects.front()));
    return std::get<Expected>(effects.front());
  }
  void hold(LeaseId lease) {
    keeper.start();
    const auto start = expect<StartLease>();
    CHECK(start.ttl_s == 10);
    keeper.started(start.attempt, now_ns(), lease);
    REQUIRE(keeper.held() == lease);
  }
};

}  // namespace

TEST_CASE("A lease is believed in until the TTL after its keepalive was sent, less a margin", "[lease]") {
  Fixture f;
  f.hold(5);
  CHECK(f.keeper.deadline_ns() == f.now_ns() + 9'000'000'000);
  f.clock.advance_ms(3'334);
  CHECK(f.expect<KeepAlive>().lease == 5);
  CHECK(f.keeper.tick().empty());  // one call at a time
  const std::int64_t sent_ns = f.now_ns();
  f.clock.advance_ms(2'000);
  f.keeper.kept_alive(5, sent_ns, {});
  CHECK(f.keeper.deadline_ns() == sent_ns + 9'000'000'000);
  CHECK(f.keeper.next_wake_ns() == sent_ns + 10'000'000'000 / 3);
}

TEST_CASE("Keepalives that fail are repeated soon, and at the deadline the lease is given up", "[lease]") {
  Fixture f;
  f.hold(5);
  int tries = 0;
  while (f.keeper.held()) {
    const std::int64_t wake_ns = f.keeper.next_wake_ns();
    REQUIRE(wake_ns > f.now_ns() - 1);
    f.clock.advance_ms(std::max<std::int64_t>((wake_ns - f.now_ns() + 999'999) / 1'000'000, 1));
    if (!f.keeper.held()) break;
    if (f.keeper.tick().empty()) continue;
    ++tries;
    f.keeper.kept_alive(5, f.now_ns(), f.unavailable());
  }
  CHECK(tries >= 4);
  CHECK(tries <= 20);
  const auto effects = f.keeper.tick();
  REQUIRE(effects.size() == 2);
  CHECK(std::get<EndLease>(effects[0]).lease == 5);
  CHECK(std::holds_alternative<StartLease>(effects[1]));
  CHECK(f.keeper.leases_lost() == 1);
}

TEST_CASE("A lease that is gone is replaced at once", "[lease]") {
  Fixture f;
  f.hold(5);
  f.clock.advance_ms(3'400);
  f.expect<KeepAlive>();
  f.keeper.kept_alive(5, f.now_ns(), f.lost());
  CHECK_FALSE(f.keeper.held());
  CHECK(f.keeper.deadline_ns() == 0);
  const auto start = f.expect<StartLease>();
  f.keeper.kept_alive(5, f.now_ns(), {});  // an old answer changes nothing
  CHECK_FALSE(f.keeper.held());
  f.keeper.started(start.attempt, f.now_ns(), LeaseId{6});
  CHECK(f.keeper.held() == LeaseId{6});
}

TEST_CASE("A process that was paused past its deadline believes in nothing when it goes on", "[lease]") {
  Fixture f;
  f.hold(5);
  f.clock.advance_ms(3'400);
  f.expect<KeepAlive>();
  const std::int64_t sent_ns = f.now_ns();
  f.clock.advance_ms(30'000);
  CHECK_FALSE(f.keeper.held());
  // The answer lay there meanwhile; it says only how things were.
  f.keeper.kept_alive(5, sent_ns, {});
  CHECK_FALSE(f.keeper.held());
}

TEST_CASE("A lease that took longer to start than it lasts is ended", "[lease]") {
  Fixture f;
  f.keeper.start();
  const auto start = f.expect<StartLease>();
  const std::int64_t sent_ns = f.now_ns();
  f.clock.advance_ms(9'000);
  f.keeper.started(start.attempt, sent_ns, LeaseId{5});
  CHECK_FALSE(f.keeper.held());
  CHECK(f.expect<EndLease>().lease == 5);
}

TEST_CASE("A keeper that stops ends its lease, and one that comes late", "[lease]") {
  Fixture f;
  f.hold(5);
  f.keeper.stop();
  CHECK(f.expect<EndLease>().lease == 5);
  f.keeper.start();
  const auto start = f.expect<StartLease>();
  f.keeper.stop();
  f.keeper.started(start.attempt, f.now_ns(), LeaseId{6});
  CHECK(f.expect<EndLease>().lease == 6);
  f.clock.advance_ms(60'000);
  CHECK(f.keeper.tick().empty());
}

TEST_CASE("Nodes that lost the coordination together do not come back together", "[lease]") {
  ManualClock clock;
  std::set<std::int64_t> wakes;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    LeaseKeeper keeper(10, clock, seed);
    keeper.start();
    const auto effects = keeper.tick();
    keeper.started(std::get<StartLease>(effects.front()).attempt, clock.monotonic_ns(),
                   fail(AgreementError::unavailable, "nobody answers"));
    wakes.insert(keeper.next_wake_ns());
  }
  CHECK(wakes.size() >= 19);
}

TEST_CASE("The clock of leases goes on", "[lease]") {
  const BootClock clock;
  const std::int64_t before_ns = clock.monotonic_ns();
  CHECK(clock.monotonic_ns() >= before_ns);
  CHECK(before_ns >= SystemClock().monotonic_ns() - 1'000'000'000);  // it never runs behind CLOCK_MONOTONIC
}

}  // namespace lease_keeper_test
