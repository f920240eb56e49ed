#include "actors/node_actor.hpp"

#include <catch2/catch.hpp>

#include <caf/typed_event_based_actor.hpp>

#include "actors/router_actor.hpp"
#include "actors/spend_reporter.hpp"
#include "tests/actors/actor_bench.hpp"

namespace node_actor_test {

using namespace outlast;
using namespace outlast::actors;
using namespace std::chrono_literals;
using testing::config_of;

namespace {

// What the accountant of the test was asked, over all its lives.
struct AccountantLog {
  std::vector<std::string> prices;  // versions, in order
  bool refuse_prices = false;
};

// Stands in for the ledger's actor: no disk. Gives its router the keys, like the real one.
Accountant::behavior_type fake_accountant(Accountant::pointer, std::shared_ptr<AccountantLog> log, Router router) {
  caf::anon_send(router, BudgetsChanged{std::make_shared<const BudgetBook>()});
  caf::anon_send(router, KeysChanged{});
  return {
      [](const CreateKey&) -> CreatedKeyReply { return fail(ActorError::refused, "not in this test"); },
      [](const RevokeKey&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](keys_atom) -> KeyList { return {}; },
      [](const SetBudget&) -> IdReply { return fail(ActorError::refused, "not in this test"); },
      [](const RemoveBudget&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](budgets_atom) -> BudgetList { return {}; },
      [](const AddCommitment&) -> IdReply { return fail(ActorError::refused, "not in this test"); },
      [](const EndCommitment&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](bulk_atom) -> CommitmentList { return {}; },
      [](changed_atom) {},
      [](pace_atom) {},
      [log](const RecordPrices& prices) -> Done {
        if (log->refuse_prices) return fail(storage::LedgerError::disk_full, "no room");
        log->prices.push_back(prices.version);
        return true;
      },
      [](const storage::UsageQuery&) -> UsageReply { return fail(ActorError::refused, "not in this test"); },
      [](verify_atom) -> VerifyReply { return fail(ActorError::refused, "not in this test"); },
  };
}

struct SpendLog {
  std::vector<std::string> configs;  // names of the nodes in them, in order
  std::size_t events = 0;
};

SpendBreakers::behavior_type fake_spend_breakers(SpendBreakers::pointer, std::shared_ptr<SpendLog> log) {
  return {
      [log](const SpendReport& report) { log->events += report.events.size(); },
      [](tick_atom) {},
      [](const BreakerNews&) {},
      [log](const ApplySpendConfig& apply) -> Done {
        log->configs.push_back(apply.config->node);
        return true;
      },
      [](const ResetBreaker&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](const AddBreakerRule&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](const RemoveBreakerRule&) -> Done { return fail(ActorError::refused, "not in this test"); },
      [](breakers_atom) -> BreakerReport { return {}; },
  };
}

struct Bench : testing::ActorBench {
  explicit Bench(RestartPolicy restarts = {}) {
    NodeDependencies dependencies;
    dependencies.spawn_router = [this](Node::pointer parent) {
      ++routers;
      return adopt(parent->spawn<caf::monitored>(
          router_actor, RouterDependencies{board, clock, testing::test_hasher(), gateway::BreakerPolicy{}}));
    };
    dependencies.spawn_accountant = [this](Node::pointer parent, Router router) {
      ++accountants;
      return adopt(parent->spawn<caf::monitored>(fake_accountant, log, router));
    };
    dependencies.spawn_spend_breakers = [this](Node::pointer parent) {
      return adopt(parent->spawn<caf::monitored>(fake_spend_breakers, spend));
    };
    dependencies.restarts = restarts;
    dependencies.on_give_up = [this] { gave_up = true; };
    node = adopt(system().spawn(node_actor, std::move(dependencies)));
    run();
  }
  ~Bench() { end(); }
  ChildrenReply children() { return ask<ChildrenReply>(node, children_atom::value); }
  Done apply(const std::string& deployment, const std::string& prices = "v1") {
    return ask<Done>(node, ApplyConfig{config_of({deployment}, prices)});
  }
  [[nodiscard]] std::string first_deployment() const { return board.get()->routing->deployments().at(0).name; }

  ManualClock clock;
  gateway::SnapshotBoard board;
  std::shared_ptr<AccountantLog> log = std::make_shared<AccountantLog>();
  std::shared_ptr<SpendLog> spend = std::make_shared<SpendLog>();
  int routers = 0;
  int accountants = 0;
  bool gave_up = false;
  Node node;
};

}  // namespace

TEST_CASE("a node starts its children and publishes a configuration once its prices are recorded", "[actors]") {
  Bench bench;
  CHECK(bench.routers == 1);
  CHECK(bench.accountants == 1);
  REQUIRE(bench.children().has_value());
  REQUIRE(bench.apply("a", "2026-11").has_value());
  CHECK(bench.log->prices == std::vector<std::string>{"2026-11"});
  REQUIRE(bench.board.get() != nullptr);
  CHECK(bench.first_deployment() == "a");
}

TEST_CASE("a configuration whose prices the ledger does not take is not published", "[actors]") {
  Bench bench;
  REQUIRE(bench.apply("a").has_value());
  bench.log->refuse_prices = true;
  const Done refused = bench.apply("b");
  REQUIRE_FALSE(refused.has_value());
  CHECK(is(refused.error(), storage::LedgerError::disk_full));
  CHECK(bench.first_deployment() == "a");
}

TEST_CASE("a node passes outcomes on to its router", "[actors]") {
  Bench bench;
  REQUIRE(bench.apply("a").has_value());
  bench.tell(bench.node, OutcomeReport{{{"a", {.credential_failures = 1}}}});
  CHECK(bench.board.get()->gauges[0]->state(bench.clock.monotonic_ns()) == gateway::BreakerState::open);
}

TEST_CASE("when one child fails both start anew after a wait, with the latest configuration", "[actors]") {
  Bench bench;
  REQUIRE(bench.apply("a").has_value());
  REQUIRE(bench.apply("b").has_value());
  const bool router_fails = GENERATE(true, false);
  const auto before = bench.children();
  const auto version = bench.board.version();
  if (router_fails) bench.kill(before->router);
  else bench.kill(before->accountant);

  const auto restarting = bench.children();
  REQUIRE_FALSE(restarting.has_value());
  CHECK(is(restarting.error(), ActorError::unavailable));
  CHECK_FALSE(bench.apply("c").has_value());
  CHECK(bench.board.get() != nullptr);  // lanes go on with what was published
  CHECK(bench.routers == 1);

  bench.advance(99ms);
  CHECK(bench.routers == 1);
  bench.advance(2ms);
  CHECK(bench.routers == 2);
  CHECK(bench.accountants == 2);
  const auto after = bench.children();
  REQUIRE(after.has_value());
  CHECK(after->router != before->router);
  CHECK(after->accountant != before->accountant);
  CHECK(bench.board.version() > version);
  CHECK(bench.first_deployment() == "b");
  REQUIRE(bench.apply("c").has_value());
  CHECK(bench.first_deployment() == "c");
}

TEST_CASE("the death of both children is one restart", "[actors]") {
  Bench bench;
  const auto children = bench.children();
  caf::anon_send_exit(children->router, caf::exit_reason::kill);
  bench.kill(children->accountant);
  bench.advance(10s);
  CHECK(bench.routers == 2);
  CHECK(bench.accountants == 2);
}

TEST_CASE("each restart waits twice as long as the one before, up to a limit", "[actors]") {
  Bench bench({.backoff = 100ms, .backoff_max = 500ms, .restarts_max = 10});
  int spawned = 1;
  for (const auto wait : {100ms, 200ms, 400ms, 500ms, 500ms}) {
    bench.kill(bench.children()->router);
    bench.advance(wait - 1ms);
    CHECK(bench.routers == spawned);
    bench.advance(2ms);
    CHECK(bench.routers == ++spawned);
  }
}

TEST_CASE("a node gives up after so many restarts", "[actors]") {
  Bench bench({.backoff = 1ms, .restarts_max = 3});
  for (int i = 0; i < 3; ++i) {
    bench.kill(bench.children()->router);
    bench.advance(1s);
    REQUIRE_FALSE(bench.gave_up);
  }
  bench.kill(bench.children()->router);
  CHECK(bench.gave_up);
  bench.advance(1min);
  CHECK(bench.routers == 4);
}

TEST_CASE("a node passes spend to the spend breakers, and gives them their rules again after a restart", "[actors]") {
  Bench bench;
  auto config = std::make_shared<gateway::SpendConfig>();
  config->node = "n1";
  REQUIRE(bench.ask<Done>(bench.node, ApplySpendConfig{config}));
  bench.tell(bench.node, SpendReport{std::vector<gateway::SpendEvent>(3), nullptr});
  CHECK(bench.spend->events == 3);
  bench.kill(bench.children()->spend_breakers);
  CHECK_FALSE(bench.ask<Done>(bench.node, ApplySpendConfig{config}));
  bench.tell(bench.node, SpendReport{std::vector<gateway::SpendEvent>(3), nullptr});  // nobody to take it
  bench.advance(1s);
  CHECK(bench.routers == 2);
  bench.tell(bench.node, SpendReport{std::vector<gateway::SpendEvent>(2), nullptr});
  CHECK(bench.spend->events == 5);
  CHECK(bench.spend->configs == std::vector<std::string>{"n1", "n1"});
}

TEST_CASE("lanes cannot fill the node's memory with spend", "[actors]") {
  Bench bench;
  SpendCounters counters;
  SpendReporter reporter(bench.node, counters);
  for (std::uint64_t i = 0; i < SpendReporter::batches_max + 5; ++i) reporter.report(std::vector<gateway::SpendEvent>(1));
  CHECK(counters.events_dropped == 5);
  bench.run();
  CHECK(bench.spend->events == SpendReporter::batches_max);
  reporter.report(std::vector<gateway::SpendEvent>(1));
  CHECK(counters.events_dropped == 5);
}

}  // namespace node_actor_test
