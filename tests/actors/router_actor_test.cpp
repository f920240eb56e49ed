#include "actors/router_actor.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "tests/actors/actor_bench.hpp"

namespace router_actor_test {

using namespace outlast;
using namespace outlast::actors;
using gateway::BreakerState;
using testing::config_of;
using testing::key_of;

namespace {

struct Bench : testing::ActorBench {
  Bench() {
    router = adopt(system().spawn(
        router_actor, RouterDependencies{board, clock, testing::test_hasher(), gateway::BreakerPolicy{}}));
  }
  ~Bench() { end(); }
  void apply(const std::vector<std::string>& deployments) {
    REQUIRE(ask<Done>(router, ApplyConfig{config_of(deployments)}).has_value());
  }
  void set_keys(std::vector<VirtualKey> keys) {
    REQUIRE(ask<Done>(router, BudgetsChanged{std::make_shared<const BudgetBook>()}).has_value());
    REQUIRE(ask<Done>(router, KeysChanged{std::move(keys)}).has_value());
  }
  void report(const std::string& deployment, const gateway::Outcome& outcome) {
    tell(router, OutcomeReport{{{deployment, outcome}}});
  }
  [[nodiscard]] std::shared_ptr<gateway::DeploymentGauge> gauge(const std::string& name) const {
    const auto snapshot = board.get();
    const auto& deployments = snapshot->routing->deployments();
    const auto found = std::find_if(deployments.begin(), deployments.end(),
                                    [&name](const gateway::Deployment& deployment) { return deployment.name == name; });
    return snapshot->gauges.at(static_cast<std::size_t>(found - deployments.begin()));
  }
  // The router's own handle of a provider: all runs on this thread.
  Provider provider(const std::string& name) {
    auto* actor = caf::actor_cast<caf::abstract_actor*>(router);
    return dynamic_cast<Router::stateful_base<RouterState>&>(*actor).state.deployments.at(name).provider;
  }

  ManualClock clock;
  gateway::SnapshotBoard board;
  Router router;
};

}  // namespace

TEST_CASE("lanes get no snapshot before both routes and keys are there", "[actors]") {
  Bench bench;
  CHECK(bench.board.get() == nullptr);
  SECTION("routes first") {
    bench.apply({"a"});
    CHECK(bench.board.get() == nullptr);
    bench.set_keys({});
  }
  SECTION("keys first") {
    bench.set_keys({});
    CHECK(bench.board.get() == nullptr);
    bench.apply({"a"});
  }
  CHECK(bench.board.get() != nullptr);
}

TEST_CASE("a snapshot has a gauge for each deployment, by index", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a", "b", "c"});
  const auto snapshot = bench.board.get();
  REQUIRE(snapshot->gauges.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK(snapshot->gauges[i]->name() == snapshot->routing->deployments()[i].name);
  CHECK(snapshot->prices->version() == "v1");
}

TEST_CASE("a snapshot that was taken stays as it was", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a", "b"});
  const auto before = bench.board.get();
  bench.apply({"c"});
  CHECK(before->routing->deployments().size() == 2);
  CHECK(before->gauges.size() == 2);
  CHECK(bench.board.get()->routing->deployments().size() == 1);
}

TEST_CASE("health and load of a deployment outlive a reload by its name", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a", "b"});
  const auto gauge = bench.gauge("a");
  REQUIRE(gauge->enter(0));
  for (int i = 0; i < 5; ++i) bench.report("a", {.failures = 1});
  REQUIRE(gauge->state(bench.clock.monotonic_ns()) == BreakerState::open);
  bench.apply({"c", "a"});
  CHECK(bench.gauge("a") == gauge);
  CHECK(bench.gauge("a")->state(bench.clock.monotonic_ns()) == BreakerState::open);
  CHECK(bench.gauge("a")->in_flight() == 1);
  bench.clock.advance_ms(1'101);
  bench.report("a", {.successes = 1, .probe = true});  // its provider is still there
  CHECK(gauge->state(bench.clock.monotonic_ns()) == BreakerState::closed);
}

TEST_CASE("the provider of a removed deployment ends", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a", "b"});
  const std::weak_ptr<gateway::DeploymentGauge> removed = bench.gauge("b");
  bench.apply({"a"});
  CHECK(removed.expired());  // nothing holds it: neither the board nor a provider
  CHECK(bench.ask<DeploymentList>(bench.router, status_atom::value).size() == 1);
  bench.report("b", {.failures = 1});  // late news of it is nobody's
  CHECK(bench.ask<DeploymentList>(bench.router, status_atom::value).size() == 1);
}

TEST_CASE("the providers end with their router", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a"});
  const std::weak_ptr<gateway::DeploymentGauge> gauge = bench.gauge("a");
  bench.kill(bench.router);
  bench.board.publish(nullptr);
  CHECK(gauge.expired());
}

TEST_CASE("outcomes reach the provider of their deployment and no other", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a", "b"});
  bench.report("a", {.credential_failures = 1});
  CHECK(bench.gauge("a")->state(bench.clock.monotonic_ns()) == BreakerState::open);
  CHECK(bench.gauge("b")->state(bench.clock.monotonic_ns()) == BreakerState::closed);
}

TEST_CASE("a revoked key vanishes from the snapshot", "[actors]") {
  Bench bench;
  bench.apply({"a"});
  const std::string text = make_virtual_key_text();
  VirtualKey key = key_of("key_1", text);
  bench.set_keys({key});
  REQUIRE(bench.board.get()->keys->find(text) != nullptr);
  CHECK(bench.board.get()->keys->find(text)->id == "key_1");
  key.revoked_ms = 1;
  bench.set_keys({key});
  CHECK(bench.board.get()->keys->find(text) == nullptr);
}

TEST_CASE("a provider that fails is replaced, and its deployment starts with a closed breaker", "[actors]") {
  Bench bench;
  bench.set_keys({});
  bench.apply({"a"});
  const auto gauge = bench.gauge("a");
  for (int i = 0; i < 5; ++i) bench.report("a", {.failures = 1});
  bench.clock.advance_ms(1'101);
  REQUIRE(gauge->state(bench.clock.monotonic_ns()) == BreakerState::half_open);
  REQUIRE(gauge->take_probe());  // its outcome would have gone to the provider that fails now
  const Provider before = bench.provider("a");
  bench.kill(before);
  CHECK(bench.provider("a") != before);
  CHECK(gauge->state(bench.clock.monotonic_ns()) == BreakerState::closed);
  CHECK(gauge->probe_free());
  for (int i = 0; i < 5; ++i) bench.report("a", {.failures = 1});
  CHECK(gauge->state(bench.clock.monotonic_ns()) == BreakerState::open);
}

TEST_CASE("a router without deployments answers its status at once", "[actors]") {
  Bench bench;
  CHECK(bench.ask<DeploymentList>(bench.router, status_atom::value).empty());
}

TEST_CASE("lanes get no snapshot before the budgets are known: they would spend what they may not", "[actors]") {
  Bench bench;
  bench.apply({"a"});
  REQUIRE(bench.ask<Done>(bench.router, KeysChanged{}).has_value());
  CHECK(bench.board.get() == nullptr);
  const auto book = std::make_shared<const BudgetBook>();
  REQUIRE(bench.ask<Done>(bench.router, BudgetsChanged{book}).has_value());
  REQUIRE(bench.board.get() != nullptr);
  CHECK(bench.board.get()->budgets == book);
}

}  // namespace router_actor_test
