#include "actors/provider_actor.hpp"

#include <catch2/catch.hpp>

#include "tests/actors/actor_bench.hpp"

namespace provider_actor_test {

using namespace outlast;
using namespace outlast::actors;
using gateway::BreakerState;
using gateway::DeploymentGauge;
using gateway::Outcome;

namespace {

struct Bench : testing::ActorBench {
  Bench() {
    provider = adopt(system().spawn(
        provider_actor, std::make_shared<ProviderState>(gauge, clock, gateway::BreakerPolicy{}, std::uint64_t{1})));
  }
  ~Bench() { end(); }
  void record(const Outcome& outcome) { tell(provider, outcome); }
  [[nodiscard]] BreakerState published() const { return gauge->state(clock.monotonic_ns()); }
  void open() {
    for (int i = 0; i < 5; ++i) record({.failures = 1});
    REQUIRE(published() == BreakerState::open);
  }

  ManualClock clock;
  std::shared_ptr<DeploymentGauge> gauge = std::make_shared<DeploymentGauge>("fable-alpha");
  Provider provider;
};

}  // namespace

TEST_CASE("a provider publishes its breaker to the deployment's gauge", "[actors]") {
  Bench bench;
  CHECK(bench.published() == BreakerState::closed);
  for (int i = 0; i < 4; ++i) bench.record({.failures = 1});
  CHECK(bench.published() == BreakerState::closed);
  CHECK(bench.gauge->consecutive_failures() == 4);
  bench.record({.failures = 1});
  CHECK(bench.published() == BreakerState::open);
  bench.clock.advance_ms(1'101);
  CHECK(bench.published() == BreakerState::half_open);
  bench.record({.successes = 1, .probe = true});
  CHECK(bench.published() == BreakerState::closed);
  CHECK(bench.gauge->consecutive_failures() == 0);
}

TEST_CASE("the probe is free again when its outcome has come, and not before", "[actors]") {
  Bench bench;
  bench.open();
  bench.clock.advance_ms(1'101);
  REQUIRE(bench.gauge->take_probe());
  CHECK_FALSE(bench.gauge->take_probe());
  bench.record({.failures = 1});  // late news, not the probe's
  CHECK_FALSE(bench.gauge->probe_free());
  bench.record({.failures = 1, .probe = true});
  CHECK(bench.gauge->probe_free());
  CHECK(bench.published() == BreakerState::open);
}

TEST_CASE("a probe that told nothing is free for the next request", "[actors]") {
  Bench bench;
  bench.open();
  bench.clock.advance_ms(1'101);
  REQUIRE(bench.gauge->take_probe());
  bench.record({.probe = true, .probe_neutral = true});
  CHECK(bench.gauge->probe_free());
  CHECK(bench.published() == BreakerState::half_open);
}

TEST_CASE("a provider's status counts what it was told", "[actors]") {
  Bench bench;
  bench.record({.successes = 3});
  bench.open();
  CHECK(bench.gauge->enter(0));
  const auto status = bench.ask<DeploymentStatus>(bench.provider, status_atom::value);
  CHECK(status.name == "fable-alpha");
  CHECK(status.breaker == BreakerState::open);
  CHECK(status.successes == 3);
  CHECK(status.failures == 5);
  CHECK(status.consecutive_failures == 5);
  CHECK(status.openings == 1);
  CHECK(status.in_flight == 1);
  CHECK(status.open_for_ms > 0);
  CHECK(status.open_for_ms <= 1'100);
  bench.gauge->leave();
}

}  // namespace provider_actor_test
