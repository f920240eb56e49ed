// The actor of spend breakers under virtual time, with a ledger that writes when the test says so.
#include "actors/spend_breakers_actor.hpp"

#include <catch2/catch.hpp>

#include <deque>

#include "core/json_writer.hpp"
#include "tests/actors/actor_bench.hpp"

namespace spend_breakers_actor_test {

using namespace outlast;
using namespace outlast::actors;
using namespace std::chrono_literals;

namespace {

constexpr PicoUsd dollar{1'000'000'000'000};

SpendBreakerRule rule_of(const std::string& name, std::uint32_t half_open_after_s = 0) {
  SpendBreakerRule rule;
  rule.name = name;
  rule.scope = *SpendScope::parse("key:*");
  rule.limit = SpendWindowLimit{dollar * 5, 60};
  rule.half_open_after_s = half_open_after_s;
  return rule;
}

struct KeptNotices final : SpendNoticeSink {
  void notify(SpendNotice notice) override { notices.push_back(std::move(notice)); }
  std::vector<SpendNotice> notices;
};

// Takes operations, and keeps their call-backs while it is told to wait.
struct FakeLedger {
  void record(BreakerOperation operation, std::function<void(Result<void>)> done) {
    operations.push_back(operation);
    if (waits) waiting.push_back(std::move(done));
    else done(refuses ? Result<void>(fail(error, "no room")) : Result<void>());
  }
  void write() {
    for (const auto& done : std::exchange(waiting, {})) done({});
  }
  BreakerRecords records;
  std::vector<storage::StoredEntry> entries;
  std::vector<BreakerOperation> operations;
  std::vector<std::function<void(Result<void>)>> waiting;
  bool waits = false;
  bool refuses = false;
  storage::LedgerError error = storage::LedgerError::disk_full;
};

struct Bench : testing::ActorBench {
  ~Bench() { end(); }

  void start(std::vector<SpendBreakerRule> rules) {
    SpendBreakersDependencies dependencies{
        board, clock, notices, counters, [this]() -> Result<BreakerRecords> { return ledger.records; },
        [this](BreakerOperation operation, std::function<void(Result<void>)> done) {
          ledger.record(std::move(operation), std::move(done));
        },
        [this](const std::function<void(const storage::StoredEntry&)>& visit) -> Result<void> {
          for (const storage::StoredEntry& entry : ledger.entries) visit(entry);
          return {};
        },
        [](std::string_view definition) -> Result<SpendBreakerRule> { return rule_of(std::string(definition)); },
        nullptr, nullptr, nullptr};
    if (in_cluster) {
      dependencies.share = [this](const std::vector<gateway::SpendEvent>& events) { shared += events.size(); };
      dependencies.tell_delivered = [this](const std::string& delivery) { delivered.push_back(delivery); };
      dependencies.leads = [this] { return leads; };
    }
    actor = adopt(system().spawn(spend_breakers_actor, std::make_shared<SpendBreakersState>(dependencies)));
    configure(std::move(rules));
  }
  void configure(std::vector<SpendBreakerRule> rules) {
    auto config = std::make_shared<gateway::SpendConfig>();
    config->node = "n1";
    config->link_base = "https://ops";
    config->notify.command = {"/bin/true"};
    for (SpendBreakerRule& rule : rules) config->rules.push_back({std::move(rule), std::nullopt});
    REQUIRE(ask<Done>(actor, ApplySpendConfig{config}));
  }
  void spend(PicoUsd cost, const std::string& key_id = "key_a", SpendOrigin origin = SpendOrigin::lanes) {
    gateway::SpendEvent event;
    auto key = std::make_shared<VirtualKey>();
    key->id = key_id;
    key->tenant = {"acme", "search", "ann"};
    event.key = key;
    event.cost = cost;
    event.time_ms = event.started_ms = gateway::spend_time_ms(clock);
    event.ended = true;
    tell(actor, SpendReport{{event}, nullptr, origin});
  }
  void pass(std::chrono::milliseconds time) {
    for (auto left = time; left > 0ms; left -= 50ms) {
      clock.advance_ms(50);
      advance(50ms);
    }
  }
  BreakerReport report() { return ask<BreakerReport>(actor, breakers_atom::value); }
  std::string only_id() {
    const BreakerReport now = report();
    REQUIRE(now.breakers.size() == 1);
    return now.breakers[0].trip.id;
  }

  gateway::SpendBoard board;
  ManualClock clock;
  KeptNotices notices;
  SpendCounters counters;
  FakeLedger ledger;
  SpendBreakers actor;
  bool in_cluster = false;
  bool leads = false;
  std::vector<std::string> delivered;  // as other nodes were told
  std::size_t shared = 0;  // events that other nodes were told
};

}  // namespace

TEST_CASE("a trip is on the board at once, and people are told when it is durable", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w")});
  CHECK(bench.board.get()->watching);
  bench.ledger.waits = true;
  bench.spend(dollar * 5);
  CHECK(bench.board.get()->scopes.size() == 1);
  REQUIRE(bench.ledger.operations.size() == 1);
  CHECK(std::get<BreakerTripped>(bench.ledger.operations[0]).scope == "key:key_a");
  CHECK(bench.notices.notices.empty());
  bench.ledger.write();
  REQUIRE(bench.notices.notices.size() == 1);
  const SpendNotice& notice = bench.notices.notices[0];
  CHECK(notice.notify.command == std::vector<std::string>{"/bin/true"});
  CHECK_THAT(notice.body, Catch::Contains(R"("event":"tripped")") && Catch::Contains(R"("node":"n1")") &&
                              Catch::Contains(R"("link":"https://ops/breakers/brk_)"));
  CHECK(bench.counters.trips == 1);
  CHECK(bench.counters.open == 1);
}

TEST_CASE("a trip that the ledger does not take holds all the same, and people are told", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w")});
  bench.ledger.refuses = true;
  bench.spend(dollar * 5);
  CHECK(bench.board.get()->scopes.size() == 1);
  CHECK(bench.notices.notices.size() == 1);
  CHECK(bench.counters.not_recorded == 1);
}

TEST_CASE("a reset is durable before lanes go by it", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w")});
  bench.spend(dollar * 5);
  const std::string id = bench.only_id();
  bench.ledger.refuses = true;
  const Done failed = bench.ask<Done>(bench.actor, ResetBreaker{id, "ann", "why", {}});
  CHECK(is(failed.error(), storage::LedgerError::disk_full));
  CHECK(bench.report().breakers.size() == 1);
  CHECK(bench.board.get()->scopes.size() == 1);
  bench.ledger.refuses = false;
  REQUIRE(bench.ask<Done>(bench.actor, ResetBreaker{id, "ann", "why", dollar}));
  CHECK(bench.board.get()->scopes.empty());
  CHECK(std::get<BreakerReset>(bench.ledger.operations.back()) == BreakerReset{id, "ann", "why", dollar});
  CHECK_THAT(bench.notices.notices.back().body, Catch::Contains(R"("event":"reset")") && Catch::Contains(R"("by":"ann")"));
  CHECK(is(bench.ask<Done>(bench.actor, ResetBreaker{id, "ann", "why", {}}).error(), ActorError::not_found));
}

TEST_CASE("half-open comes by time alone and its first request decides", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w", 70)});
  bench.spend(dollar * 5);
  bench.pass(69s);
  CHECK(bench.report().breakers.at(0).state == gateway::SpendState::open);
  CHECK(bench.report().breakers.at(0).half_opens_in_ms == 1'000);
  bench.pass(1'500ms);
  CHECK(bench.report().breakers.at(0).state == gateway::SpendState::half_open);
  bench.spend(dollar);
  CHECK(bench.report().breakers.empty());
  CHECK(bench.board.get()->scopes.empty());
  CHECK(std::get<BreakerReset>(bench.ledger.operations.back()).by == "outlastd");
  CHECK(bench.counters.closed == 1);
}

TEST_CASE("what the ledger knows is on the board before the first request", "[spend_breaker]") {
  Bench bench;
  bench.ledger.records.definitions["made"] = "made";
  bench.ledger.records.open = {
      {BreakerTripped{"brk_a", "w", "key:key_a", "", SpendAction::hold, "why"}, bench.clock.wall_ms() - 3'600'000},
      {BreakerTripped{"brk_b", "made", "key:key_b", "session s", SpendAction::hold, "why"}, bench.clock.wall_ms()},
      {BreakerTripped{"brk_c", "gone", "key:key_c", "", SpendAction::hold, "why"}, bench.clock.wall_ms()}};
  bench.start({rule_of("w")});
  CHECK(bench.board.get()->scopes.size() == 1);
  CHECK(bench.board.get()->sessions.contains("key:key_b session s"));
  const BreakerReport report = bench.report();
  REQUIRE(report.breakers.size() == 2);
  CHECK(report.breakers[0].since_ms == bench.clock.wall_ms() - 3'600'000);
  // Its rule is gone, so nothing could ever close it.
  REQUIRE(bench.ledger.operations.size() == 1);
  CHECK(std::get<BreakerReset>(bench.ledger.operations[0]).id == "brk_c");
  REQUIRE(report.rules.size() == 2);
  CHECK(report.rules[0].from_file);
  CHECK_FALSE(report.rules[1].from_file);
}

TEST_CASE("rules made by API are recorded first, and those of the file are not theirs to change", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w")});
  const auto add = [&bench](const std::string& name) {
    return bench.ask<Done>(bench.actor, AddBreakerRule{rule_of(name), name, "ann", "new"});
  };
  CHECK(is(add("w").error(), ActorError::refused));
  bench.ledger.refuses = true;
  CHECK_FALSE(add("made"));
  CHECK(bench.report().rules.size() == 1);
  bench.ledger.refuses = false;
  REQUIRE(add("made"));
  CHECK(bench.report().rules.size() == 2);
  bench.spend(dollar * 5);
  CHECK(bench.report().breakers.size() == 2);
  REQUIRE(bench.ask<Done>(bench.actor, RemoveBreakerRule{"made", "ann", "done"}));
  CHECK(bench.report().breakers.size() == 1);
  CHECK(is(bench.ask<Done>(bench.actor, RemoveBreakerRule{"made", "ann", ""}).error(), ActorError::not_found));
  CHECK(is(bench.ask<Done>(bench.actor, RemoveBreakerRule{"w", "ann", ""}).error(), ActorError::refused));
  for (std::size_t i = 1; i < spend_rules_max; ++i) REQUIRE(add("rule" + std::to_string(i)));
  CHECK(is(add("one more").error(), ActorError::refused));
}

TEST_CASE("a changed rule takes hold of what is open already", "[spend_breaker]") {
  Bench bench;
  bench.start({rule_of("w")});
  bench.spend(dollar * 5);
  SpendBreakerRule rule = rule_of("w");
  rule.action = SpendAction::throttle;
  rule.requests_per_minute = 60;
  bench.configure({rule});
  CHECK(bench.report().breakers.at(0).trip.action == SpendAction::throttle);
  rule.action = SpendAction::notify;
  bench.configure({rule});
  CHECK(bench.report().breakers.size() == 1);
  CHECK(bench.board.get()->scopes.empty());
}

namespace {

// A request of key_a's, from its reservation to its settlement, as the ledger has it.
void add_request(Bench& bench, std::uint8_t number, std::int64_t wall_ms, PicoUsd cost, const std::string& session = {}) {
  RequestId id;
  id.bytes[15] = number;
  storage::StoredEntry reserved;
  reserved.header.time_ms = wall_ms;
  Reservation reservation;
  reservation.request_id = id;
  reservation.key_id = "key_a";
  reservation.tenant = {"acme", "search", "ann"};
  reservation.session = session;
  reserved.body = reservation;
  bench.ledger.entries.push_back(reserved);
  storage::StoredEntry settled = reserved;
  AttemptLine attempt;
  attempt.request_id = id;
  attempt.cost = cost;
  settled.body = proto::Settled{Settlement{attempt}, {}};
  bench.ledger.entries.push_back(settled);
}

}  // namespace

TEST_CASE("what was spent before a restart still counts", "[spend_breaker]") {
  Bench bench;
  const std::int64_t now = bench.clock.wall_ms();
  add_request(bench, 1, now - 3'600'000, dollar * 9);  // longer ago than the window
  add_request(bench, 2, now - 30'000, dollar * 3);
  add_request(bench, 3, now + 900'000, dollar);  // written before the clock was set back
  bench.start({rule_of("w")});
  CHECK(bench.report().breakers.empty());  // recalling opens nothing
  bench.spend(dollar * 1);
  REQUIRE(bench.report().breakers.size() == 1);
  CHECK(bench.report().breakers[0].trip.why == "it spent 5.00 USD within 60 s; the limit is 5.00 USD");
}

TEST_CASE("resets before a restart count as they did", "[spend_breaker]") {
  Bench bench;
  const std::int64_t now = bench.clock.wall_ms();
  const std::string id = gateway::spend_breaker_id("w", {ScopeKind::key, "key_a", {}});
  const auto reset = [&bench, &id, now](PicoUsd allowance) {
    storage::StoredEntry entry;
    entry.header.time_ms = now;
    entry.body = BreakerReset{id, "ann", "why", allowance};
    bench.ledger.entries.push_back(entry);
  };
  add_request(bench, 1, now - 1'000, dollar * 6);
  SECTION("without an allowance counting began anew") {
    reset({});
    bench.start({rule_of("w")});
    bench.spend(dollar * 4);
    CHECK(bench.report().breakers.empty());
    bench.spend(dollar);
    CHECK(bench.report().breakers.size() == 1);
  }
  SECTION("of an allowance what was left is left") {
    reset(dollar * 20);
    bench.ledger.records.allowances[id] = dollar * 20;
    add_request(bench, 2, now, dollar * 18);
    bench.start({rule_of("w")});
    bench.spend(dollar);
    CHECK(bench.report().breakers.empty());
    bench.spend(dollar);
    CHECK(bench.report().breakers.size() == 1);
  }
}

namespace {

BreakerTripped trip_of(const std::string& rule) {
  const gateway::SpendSubject subject{ScopeKind::key, "key_a", {}};
  return {gateway::spend_breaker_id(rule, subject), rule, "key:key_a", "", SpendAction::hold, "it was too much"};
}

}  // namespace

TEST_CASE("what another node tripped, reset or ruled holds here too, and is recorded and told by nobody again",
          "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.start({rule_of("night")});
  const BreakerTripped trip = trip_of("night");
  bench.tell(bench.actor, BreakerNews{{{trip, 1}, {trip, 2}, {BreakerRuleChange{"theirs", "theirs", "ann", "new"}, 3}}});
  const BreakerReport open = bench.report();
  REQUIRE(open.breakers.size() == 1);
  CHECK(open.breakers[0].trip == trip);
  CHECK(open.rules.size() == 2);
  CHECK(bench.counters.open == 1);

  bench.tell(bench.actor, BreakerNews{{{BreakerReset{trip.id, "ann", "seen", {}}, 4},
                                       {BreakerReset{trip.id, "ann", "seen", {}}, 5},
                                       {BreakerRuleChange{"theirs", "", "ann", "old"}, 6}}});
  CHECK(bench.report().breakers.empty());
  CHECK(bench.report().rules.size() == 1);
  bench.pass(5s);
  CHECK(bench.ledger.operations.empty());
  CHECK(bench.notices.notices.empty());

  // It counts from nothing, as after a reset here.
  bench.spend(dollar * 6);
  CHECK(bench.only_id() == trip.id);
}

TEST_CASE("a breaker trips by what all nodes spent, and what peers tell is not told again", "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.start({rule_of("w")});
  bench.spend(dollar * 2);
  bench.spend(dollar * 2, "key_a", SpendOrigin::peers);
  CHECK(bench.report().breakers.empty());
  bench.spend(dollar, "key_a", SpendOrigin::peers);
  CHECK(bench.report().breakers.size() == 1);
  CHECK(bench.board.get()->scopes.size() == 1);
  CHECK(bench.shared == 1);
  CHECK(bench.counters.events == 1);
  CHECK(bench.counters.peer_events == 2);
}

TEST_CASE("the node that leads records a trip at once, and tells people when its entry comes, once", "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = bench.leads = true;
  bench.start({rule_of("w")});
  bench.spend(dollar * 5);
  REQUIRE(bench.ledger.operations.size() == 1);
  const auto trip = std::get<BreakerTripped>(bench.ledger.operations[0]);
  CHECK(bench.notices.notices.empty());
  bench.tell(bench.actor, BreakerNews{{{trip, 77}}});
  bench.tell(bench.actor, BreakerNews{{{trip, 78}}});  // another node's of the same trip
  REQUIRE(bench.notices.notices.size() == 1);
  CHECK(bench.notices.notices[0].id == trip.id + "-77-tripped");
  bench.notices.notices[0].delivered(bench.notices.notices[0].id);
  CHECK(bench.delivered == std::vector<std::string>{trip.id + "-77-tripped"});

  REQUIRE(bench.ask<Done>(bench.actor, ResetBreaker{trip.id, "ann", "why", {}}));
  CHECK(bench.notices.notices.size() == 1);
  bench.spend(dollar * 5);  // trips again before the reset's entry comes
  bench.tell(bench.actor, BreakerNews{{{BreakerReset{trip.id, "ann", "why", {}}, 80}}});
  REQUIRE(bench.notices.notices.size() == 2);
  CHECK(bench.notices.notices[1].id == trip.id + "-80-reset");
  CHECK(bench.report().breakers.size() == 1);
}

TEST_CASE("a node that does not lead records a trip only when no entry tells it for a second", "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.start({rule_of("w")});
  bench.spend(dollar * 5);
  CHECK(bench.board.get()->scopes.size() == 1);  // but it holds at once
  bench.pass(500ms);
  CHECK(bench.ledger.operations.empty());
  SECTION("an entry comes") {
    bench.tell(bench.actor, BreakerNews{{{trip_of("w"), 7}}});
    bench.pass(5s);
    CHECK(bench.ledger.operations.empty());
  }
  SECTION("none comes") {
    bench.pass(600ms);
    REQUIRE(bench.ledger.operations.size() == 1);
    bench.pass(5s);
    CHECK(bench.ledger.operations.size() == 1);
  }
  SECTION("a person resets it meanwhile: its trip comes first") {
    REQUIRE(bench.ask<Done>(bench.actor, ResetBreaker{trip_of("w").id, "ann", "why", {}}));
    REQUIRE(bench.ledger.operations.size() == 2);
    CHECK(std::holds_alternative<BreakerTripped>(bench.ledger.operations[0]));
    CHECK(std::holds_alternative<BreakerReset>(bench.ledger.operations[1]));
  }
  CHECK(bench.notices.notices.empty());
}

TEST_CASE("who leads next tells again what the node before may not have told, as the same delivery", "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  const auto died = [&bench] {
    bench.leads = true;
    bench.pass(500ms);
  };
  SECTION("of an entry that came") {
    bench.start({rule_of("w")});
    bench.tell(bench.actor, BreakerNews{{{trip_of("w"), 77}}});
    bench.pass(5s);
    CHECK(bench.notices.notices.empty());
    died();
    REQUIRE(bench.notices.notices.size() == 1);
    CHECK(bench.notices.notices[0].id == trip_of("w").id + "-77-tripped");
  }
  SECTION("of an entry that was there when it started") {
    const std::int64_t tripped_ms = bench.clock.wall_ms() - 3'000;
    bench.ledger.records.open = {{trip_of("w"), tripped_ms}};
    bench.start({rule_of("w")});
    died();
    REQUIRE(bench.notices.notices.size() == 1);
    CHECK(bench.notices.notices[0].id == trip_of("w").id + "-" + std::to_string(tripped_ms) + "-tripped");
  }
  SECTION("but not what it said that it told") {
    bench.start({rule_of("w")});
    bench.tell(bench.actor, BreakerNews{{{trip_of("w"), 77}}, {}});
    bench.tell(bench.actor, BreakerNews{{}, {trip_of("w").id + "-77-tripped"}});
    died();
    CHECK(bench.notices.notices.empty());
  }
  SECTION("but not of long ago") {
    bench.start({rule_of("w")});
    bench.tell(bench.actor, BreakerNews{{{trip_of("w"), 77}}});
    bench.pass(61s);
    died();
    CHECK(bench.notices.notices.empty());
  }
}

TEST_CASE("a node that cannot record a trip tells people itself, and one whose close came second is silent",
          "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.start({rule_of("w", 70)});
  bench.ledger.refuses = true;
  bench.spend(dollar * 5);
  bench.pass(1'100ms);
  CHECK(bench.notices.notices.size() == 1);
  CHECK(bench.counters.not_recorded == 1);

  bench.ledger.error = storage::LedgerError::unknown_breaker;
  bench.pass(71s);
  bench.spend(dollar);  // the probe closes it
  CHECK(bench.report().breakers.empty());
  bench.pass(1'100ms);
  CHECK(std::get<BreakerReset>(bench.ledger.operations.back()).by == "outlastd");
  CHECK(bench.notices.notices.size() == 1);
  CHECK(bench.counters.not_recorded == 1);
}

TEST_CASE("a trip that found no way to the ledger is tried again until it does, or is no more", "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.leads = GENERATE(false, true);
  bench.start({rule_of("w")});
  bench.ledger.refuses = true;
  bench.spend(dollar * 5);
  bench.pass(20s);
  const std::size_t tries = bench.ledger.operations.size();
  CHECK((tries >= 3 && tries <= 5));
  CHECK(bench.notices.notices.size() == 1);
  SECTION("it does") {
    bench.ledger.refuses = false;
    bench.pass(6s);
    CHECK(bench.ledger.operations.size() == tries + 1);
    CHECK(bench.ledger.operations.back() == BreakerOperation(bench.report().breakers.at(0).trip));
  }
  SECTION("another node's entry came") {
    bench.tell(bench.actor, BreakerNews{{{trip_of("w"), 7}}, {}});
    bench.pass(6s);
    CHECK(bench.ledger.operations.size() == tries);
  }
  SECTION("its rule went") {
    bench.ledger.error = storage::LedgerError::unknown_breaker;
    bench.configure({});
    bench.pass(2s);
    CHECK(std::holds_alternative<BreakerReset>(bench.ledger.operations.back()));
  }
  const std::size_t at_last = bench.ledger.operations.size();
  bench.pass(20s);
  CHECK(bench.ledger.operations.size() == at_last);
  CHECK(bench.counters.not_recorded == 1);
}

TEST_CASE("what another node closed by half-open keeps its count here, and what tripped again there holds here",
          "[spend_breaker]") {
  Bench bench;
  bench.in_cluster = true;
  bench.start({rule_of("w", 10)});
  bench.spend(dollar * 3);
  const BreakerTripped trip = trip_of("w");
  bench.tell(bench.actor, BreakerNews{{{trip, 0}}});
  bench.pass(11s);
  CHECK(bench.report().breakers.at(0).state == gateway::SpendState::half_open);
  bench.tell(bench.actor, BreakerNews{{{trip, 10'050}}});
  CHECK(bench.report().breakers.at(0).state == gateway::SpendState::open);
  bench.pass(11s);
  bench.tell(bench.actor, BreakerNews{{{BreakerReset{trip.id, "outlastd", "half-open", {}}, 20'100}}});
  CHECK(bench.report().breakers.empty());
  bench.spend(dollar * 2);
  CHECK(bench.report().breakers.size() == 1);
}

}  // namespace spend_breakers_actor_test
