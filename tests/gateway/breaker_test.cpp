#include <catch2/catch.hpp>

#include "core/clock.hpp"
#include "gateway/breaker.hpp"

namespace breaker_test {

using outlast::ManualClock;
using outlast::Random;
using outlast::gateway::Breaker;
using outlast::gateway::BreakerPolicy;
using outlast::gateway::BreakerState;
using outlast::gateway::Outcome;

namespace {

constexpr Outcome success{.successes = 1};
constexpr Outcome failure{.failures = 1};
constexpr Outcome good_probe{.successes = 1, .probe = true};
constexpr Outcome bad_probe{.failures = 1, .probe = true};

// A breaker under virtual time.
struct Bench {
  explicit Bench(std::uint64_t seed = 1, BreakerPolicy breaker_policy = {})
      : policy(breaker_policy), breaker(breaker_policy, seed) {}

  void record(const Outcome& outcome) { breaker.record(outcome, clock.monotonic_ns()); }
  [[nodiscard]] BreakerState state() const { return breaker.state(clock.monotonic_ns()); }
  // How long an open breaker stays open, in milliseconds.
  [[nodiscard]] double open_ms() const {
    return static_cast<double>(breaker.open_until_ns() - clock.monotonic_ns()) / 1e6;
  }
  void open() {
    for (std::uint32_t i = 0; i < policy.consecutive_failures; ++i) record(failure);
  }
  void wait_for_half_open() {
    clock.advance_ms(static_cast<std::int64_t>(open_ms()) + 1);
    REQUIRE(state() == BreakerState::half_open);
  }

  BreakerPolicy policy;
  ManualClock clock;
  Breaker breaker;
};

}  // namespace

TEST_CASE("a breaker opens at the fifth failure in a row and not before", "[breaker]") {
  Bench bench;
  for (int i = 0; i < 4; ++i) bench.record(failure);
  CHECK(bench.state() == BreakerState::closed);
  bench.record(failure);
  CHECK(bench.state() == BreakerState::open);
  CHECK(bench.breaker.consecutive_failures() == 5);
}

TEST_CASE("a success between failures starts the row again", "[breaker]") {
  Bench bench;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 4; ++i) bench.record(failure);
    bench.record(success);
  }
  CHECK(bench.state() == BreakerState::closed);
  CHECK(bench.breaker.consecutive_failures() == 0);
}

TEST_CASE("the failure that ends a batch of successes is the first in a row", "[breaker]") {
  // A lane reports a failure at once, together with the successes that it had gathered before it.
  Bench bench;
  bench.record({.successes = 7, .failures = 1});
  CHECK(bench.breaker.consecutive_failures() == 1);
  for (int i = 0; i < 4; ++i) bench.record(failure);
  CHECK(bench.state() == BreakerState::open);
}

TEST_CASE("half of twenty attempts within the window open a breaker", "[breaker]") {
  Bench bench;
  for (int i = 0; i < 9; ++i) {
    bench.record(failure);
    bench.record(success);
  }
  bench.record(success);
  CHECK(bench.state() == BreakerState::closed);  // 19 attempts
  bench.record(failure);
  CHECK(bench.state() == BreakerState::open);  // 10 of 20
}

TEST_CASE("less than half of the window's attempts do not open a breaker", "[breaker]") {
  Bench bench;
  for (int i = 0; i < 40; ++i) {
    bench.record(failure);
    bench.record({.successes = 2});
  }
  CHECK(bench.state() == BreakerState::closed);
}

TEST_CASE("attempts older than the window do not count", "[breaker]") {
  Bench bench;
  for (int i = 0; i < 9; ++i) {
    bench.record(failure);
    bench.record(success);
  }
  bench.clock.advance_ms(bench.policy.window_ms + 1'000);
  bench.record(success);
  bench.record(failure);
  CHECK(bench.state() == BreakerState::closed);
}

TEST_CASE("an open breaker becomes half-open after its time, with at most a tenth of jitter", "[breaker]") {
  const auto seed = GENERATE(range(0, 50));
  Bench bench(static_cast<std::uint64_t>(seed));
  bench.open();
  CHECK(bench.open_ms() >= bench.policy.open_ms);
  CHECK(bench.open_ms() <= bench.policy.open_ms * 1.1 + 0.001);
  bench.clock.advance_ms(bench.policy.open_ms - 1);
  CHECK(bench.state() == BreakerState::open);
  bench.clock.advance_ms(bench.policy.open_ms / 10 + 2);
  CHECK(bench.state() == BreakerState::half_open);
}

TEST_CASE("jitter differs between seeds", "[breaker]") {
  Bench one(1);
  Bench other(2);
  one.open();
  other.open();
  CHECK(one.open_ms() != other.open_ms());
}

TEST_CASE("one good probe closes a half-open breaker and forgets what was", "[breaker]") {
  Bench bench;
  bench.open();
  bench.wait_for_half_open();
  bench.record(bad_probe);
  bench.wait_for_half_open();
  bench.record(good_probe);
  CHECK(bench.state() == BreakerState::closed);
  bench.open();
  CHECK(bench.open_ms() <= bench.policy.open_ms * 1.1 + 0.001);  // the first time again
}

TEST_CASE("each failed probe doubles the wait up to the cap", "[breaker]") {
  Bench bench;
  bench.open();
  double expected_ms = bench.policy.open_ms;
  for (int i = 0; i < 20; ++i) {
    CHECK(bench.open_ms() >= expected_ms);
    CHECK(bench.open_ms() <= expected_ms * 1.1 + 0.001);
    bench.wait_for_half_open();
    bench.record(bad_probe);
    REQUIRE(bench.state() == BreakerState::open);
    expected_ms = std::min<double>(expected_ms * 2, bench.policy.open_ms_max);
  }
  CHECK(expected_ms == bench.policy.open_ms_max);
}

TEST_CASE("outcomes of requests that were under way do not move an open breaker", "[breaker]") {
  Bench bench;
  bench.open();
  const std::int64_t until = bench.breaker.open_until_ns();
  for (int i = 0; i < 30; ++i) bench.record(failure);
  CHECK(bench.breaker.open_until_ns() == until);
  bench.record(success);
  CHECK(bench.state() == BreakerState::open);
  bench.wait_for_half_open();
  bench.record(success);
  bench.record(failure);
  CHECK(bench.state() == BreakerState::half_open);
}

TEST_CASE("a probe that tells nothing leaves the breaker half-open for the next one", "[breaker]") {
  Bench bench;
  bench.open();
  bench.wait_for_half_open();
  bench.record({.probe = true, .probe_neutral = true});
  CHECK(bench.state() == BreakerState::half_open);
  bench.record(good_probe);
  CHECK(bench.state() == BreakerState::closed);
}

TEST_CASE("a refused credential opens the breaker at once and for long", "[breaker]") {
  Bench bench;
  bench.record({.credential_failures = 1});
  CHECK(bench.state() == BreakerState::open);
  CHECK(bench.open_ms() >= bench.policy.credential_open_ms);
  CHECK(bench.open_ms() <= bench.policy.credential_open_ms * 1.1 + 0.001);
}

TEST_CASE("a throttled deployment is left alone for as long as its provider asked", "[breaker]") {
  Bench bench;
  bench.record({.throttled_ms = 7'500});
  CHECK(bench.state() == BreakerState::open);
  CHECK(bench.open_ms() == Approx(7'500));
  bench.record({.throttled_ms = 2'000});  // a shorter wait does not end the longer one
  CHECK(bench.open_ms() == Approx(7'500));
  bench.record({.throttled_ms = 9'000});
  CHECK(bench.open_ms() == Approx(9'000));
}

TEST_CASE("throttling does not make the next wait longer", "[breaker]") {
  Bench bench;
  for (int i = 0; i < 6; ++i) {
    bench.record({.throttled_ms = 1'000, .probe = i > 0});
    bench.wait_for_half_open();
  }
  bench.record(bad_probe);
  CHECK(bench.open_ms() <= bench.policy.open_ms * 1.1 + 0.001);
}

TEST_CASE("the breaker's states follow a naive model under random outcomes", "[breaker]") {
  // The model keeps every attempt of the window in a list; slots may only forget up to a tenth of a window early.
  const auto seed = GENERATE(range(0, 40));
  Random random(static_cast<std::uint64_t>(seed));
  BreakerPolicy policy;
  policy.consecutive_failures = 1'000'000;  // the window's rule alone
  Bench bench(static_cast<std::uint64_t>(seed), policy);
  struct Seen {
    std::int64_t at_ns;
    bool failed;
  };
  std::vector<Seen> seen;
  const std::uint64_t failing_percent = random.below(101);
  for (int i = 0; i < 2'000 && bench.state() == BreakerState::closed; ++i) {
    bench.clock.advance_ms(static_cast<std::int64_t>(random.below(900)));
    const bool failed = random.below(100) < failing_percent;
    seen.push_back({bench.clock.monotonic_ns(), failed});
    bench.record(failed ? failure : success);
    const auto failing = [&](std::int64_t window_ms) {
      std::uint64_t requests = 0;
      std::uint64_t failures = 0;
      for (const Seen& attempt : seen) {
        if (attempt.at_ns <= bench.clock.monotonic_ns() - window_ms * 1'000'000) continue;
        ++requests;
        failures += attempt.failed ? 1 : 0;
      }
      return requests >= policy.window_requests_min && failures * 100 >= requests * policy.window_failures_percent;
    };
    // Where the shortest and the longest window that the slots may stand for agree, so must the breaker.
    bool all = failed;
    bool any = false;
    for (std::int64_t ms = policy.window_ms * 9 / 10; ms <= policy.window_ms; ms += 10) {
      const bool now_failing = failing(ms);
      all = all && now_failing;
      any = any || now_failing;
    }
    if (all) CHECK(bench.state() == BreakerState::open);
    if (!any || !failed) CHECK(bench.state() == BreakerState::closed);
  }
}

}  // namespace breaker_test
