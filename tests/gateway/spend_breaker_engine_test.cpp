// The engine of spend breakers under virtual time.
#include <catch2/catch.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "core/random.hpp"
#include "gateway/spend_breaker_engine.hpp"

namespace outlast::gateway::spend_breaker_engine_test {
namespace {

constexpr PicoUsd dollar{1'000'000'000'000};

PicoUsd usd(std::int64_t dollars) { return dollar * static_cast<std::uint64_t>(dollars); }
PicoUsd cents(std::int64_t count) { return {static_cast<__int128>(count) * 10'000'000'000}; }

std::shared_ptr<const VirtualKey> key_of(const std::string& id, const std::string& user) {
  auto key = std::make_shared<VirtualKey>();
  key->id = id;
  key->tenant = {"acme", "search", user};
  return key;
}

SpendBreakerRule rule_of(SpendLimit limit, const char* scope = "user:*", const char* name = "rule") {
  SpendBreakerRule rule;
  rule.name = name;
  rule.scope = *SpendScope::parse(scope);
  rule.limit = limit;
  return rule;
}

// One user's engine, one event at a time.
struct Bench {
  explicit Bench(SpendBreakerRule rule) { engine.set_rules({std::move(rule)}); }

  std::vector<SpendChange> spend(std::int64_t at_ms, PicoUsd cost, std::int64_t started_ms = -1) {
    SpendEvent event = base;
    event.cost = cost;
    event.time_ms = at_ms;
    event.started_ms = started_ms < 0 ? at_ms : started_ms;
    event.ended = true;
    engine.record(event);
    return engine.take_changes();
  }
  std::vector<SpendChange> advance(std::int64_t at_ms) {
    engine.advance(at_ms);
    return engine.take_changes();
  }
  [[nodiscard]] std::string only_id() const {
    REQUIRE(engine.open().size() == 1);
    return engine.open().begin()->first;
  }

  SpendBreakerEngine engine;
  SpendEvent base = [] {
    SpendEvent event;
    event.key = key_of("key_a", "ann");
    event.provider = "alpha";
    event.model = "m";
    return event;
  }();
};

}  // namespace

TEST_CASE("a window breaker trips when its amount is reached and says why", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  CHECK(bench.spend(1'000, usd(3)).empty());
  CHECK(bench.spend(2'000, cents(199)).empty());
  const auto changes = bench.spend(3'000, cents(1));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].kind == SpendChangeKind::tripped);
  const BreakerTripped& trip = changes[0].breaker.trip;
  CHECK(trip.rule == "rule");
  CHECK(trip.scope == "user:acme/search/ann");
  CHECK(trip.action == SpendAction::hold);
  CHECK(trip.why == "it spent 5.00 USD within 60 s; the limit is 5.00 USD");
  CHECK(trip.id.starts_with("brk_"));
  CHECK(bench.spend(4'000, usd(9)).empty());  // open already
}

TEST_CASE("what is older than the window does not count", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  for (std::int64_t minute = 0; minute < 100; ++minute) CHECK(bench.spend(minute * 61'000, usd(4)).empty());
}

TEST_CASE("each scope of a kind is counted alone", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  CHECK(bench.spend(1, usd(4)).empty());
  bench.base.key = key_of("key_b", "bob");
  CHECK(bench.spend(2, usd(4)).empty());
  bench.base.key = key_of("key_c", "ann");  // the same user by another key
  CHECK(bench.spend(3, usd(1)).size() == 1);
}

TEST_CASE("a rule of one scope leaves others alone", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(1), 60}, "tag:batch"));
  CHECK(bench.spend(1, usd(9)).empty());
  bench.base.tags = {"other", "batch", "batch"};
  CHECK(bench.spend(2, cents(60)).empty());  // a tag named twice counts once
  CHECK(bench.spend(3, cents(40)).size() == 1);
}

TEST_CASE("providers and models are scopes too", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(1), 60}, "provider:*"));
  const auto changes = bench.spend(1, usd(2));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].breaker.trip.scope == "provider:alpha");
}

TEST_CASE("a rate breaker compares with the scope's own median of active samples", "[spend_breaker]") {
  Bench bench(rule_of(SpendRateLimit{10, usd(2), 60, 60}));
  std::int64_t minute = 0;
  // Days with nights of silence between them: the median is that of the minutes with spend.
  for (int day = 0; day < 3; ++day) {
    for (int i = 0; i < 20; ++i) CHECK(bench.spend(60'000 * ++minute, cents(10)).empty());
    minute += 600;
  }
  ++minute;
  CHECK(bench.spend(60'000 * minute, usd(1)).empty());  // ten times the median, but below min_amount
  CHECK(bench.spend(60'000 * minute + 1, cents(99)).empty());
  const auto changes = bench.spend(60'000 * minute + 2, cents(1));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].breaker.trip.why == "it spent 2.00 USD within 60 s, more than 10 times its median of 0.10 USD");
}

TEST_CASE("a rate breaker says nothing before it knows the scope", "[spend_breaker]") {
  Bench bench(rule_of(SpendRateLimit{2, cents(1), 60, 60}));
  for (std::int64_t minute = 1; minute <= 3; ++minute) CHECK(bench.spend(60'000 * minute, usd(minute * 100)).empty());
  CHECK(bench.spend(60'000 * 4, usd(1'000)).size() == 1);
}

TEST_CASE("a session breaker trips by duration over many requests", "[spend_breaker]") {
  Bench bench(rule_of(SpendSessionLimit{36'000, {}, 900}, "key:*"));
  bench.base.session = "night run";
  std::int64_t now = 5'000'000;
  const std::int64_t begin = now;
  std::vector<SpendChange> changes;
  while (changes.empty() && now - begin < 50'000'000) changes = bench.spend(now += 600'000, cents(1));
  REQUIRE(changes.size() == 1);
  CHECK(now - begin == 36'600'000);
  CHECK(changes[0].breaker.trip.scope == "key:key_a");
  CHECK(changes[0].breaker.trip.session == "session night run");
}

TEST_CASE("a pause longer than the gap ends a session", "[spend_breaker]") {
  Bench bench(rule_of(SpendSessionLimit{3'600, usd(3), 900}, "key:*"));
  bench.base.conversation = 77;
  for (std::int64_t i = 1; i < 100; ++i) CHECK(bench.spend(i * 901'000, usd(2)).empty());
}

TEST_CASE("a session is known by its conversation where it has no name, and belongs to one key", "[spend_breaker]") {
  Bench bench(rule_of(SpendSessionLimit{0, usd(3), 900}, "team:acme/search"));
  CHECK(bench.spend(1, usd(9)).empty());  // neither name nor conversation
  bench.base.conversation = 77;
  CHECK(bench.spend(2, usd(2)).empty());
  bench.base.key = key_of("key_b", "bob");
  CHECK(bench.spend(3, usd(2)).empty());
  bench.base.session = "s";
  CHECK(bench.spend(4, usd(2)).empty());
  bench.base.session.clear();
  const auto changes = bench.spend(5, usd(1));
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].breaker.trip.session == "conversation 000000000000004d");
}

TEST_CASE("a long request counts as long as it runs", "[spend_breaker]") {
  Bench bench(rule_of(SpendSessionLimit{60, {}, 900}, "key:*"));
  bench.base.session = "s";
  CHECK(bench.spend(10'000, cents(1), 1'000).empty());
  CHECK(bench.spend(61'000, cents(1), 1'000).size() == 1);
}

TEST_CASE("identical requests trip a repeats breaker, others do not", "[spend_breaker]") {
  Bench bench(rule_of(SpendRepeatLimit{5, 60}, "key:*"));
  for (std::uint64_t i = 1; i < 50; ++i) {
    bench.base.request = i;
    CHECK(bench.spend(static_cast<std::int64_t>(i), {}).empty());
  }
  bench.base.request = 7;
  for (std::int64_t i = 0; i < 3; ++i) CHECK(bench.spend(100 + i, {}).empty());
  const auto changes = bench.spend(110, {});
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].breaker.trip.session == "request 0000000000000007");
  CHECK(changes[0].breaker.trip.why == "it was sent 5 times within 60 s; the limit is 5");
}

TEST_CASE("a running stream counts as one request, at its end", "[spend_breaker]") {
  Bench bench(rule_of(SpendRepeatLimit{2, 60}, "key:*"));
  bench.base.request = 7;
  SpendEvent part = bench.base;
  for (int i = 0; i < 10; ++i) bench.engine.record(part);
  CHECK(bench.engine.take_changes().empty());
}

TEST_CASE("half-open lets a request decide: it closes when the rule is satisfied", "[spend_breaker]") {
  SpendBreakerRule rule = rule_of(SpendWindowLimit{usd(5), 60});
  rule.half_open_after_s = 90;
  Bench bench(rule);
  REQUIRE(bench.spend(1'000, usd(5)).size() == 1);
  CHECK(bench.engine.next_due_ms() == 91'000);
  CHECK(bench.advance(90'999).empty());
  const auto opened = bench.advance(91'000);
  REQUIRE(opened.size() == 1);
  CHECK(opened[0].kind == SpendChangeKind::half_opened);
  const auto closed = bench.spend(92'000, usd(1), 91'500);
  REQUIRE(closed.size() == 1);
  CHECK(closed[0].kind == SpendChangeKind::closed);
  CHECK(bench.engine.open().empty());
  CHECK(bench.advance(1'000'000'000).empty());
}

TEST_CASE("half-open opens again when the rule is still broken", "[spend_breaker]") {
  SpendBreakerRule rule = rule_of(SpendWindowLimit{usd(5), 600});
  rule.half_open_after_s = 60;
  Bench bench(rule);
  REQUIRE(bench.spend(1'000, usd(5)).size() == 1);
  REQUIRE(bench.advance(61'000).size() == 1);
  CHECK(bench.spend(61'500, usd(1), 60'000).empty());  // began before: it is no probe
  const auto again = bench.spend(62'000, usd(1));
  REQUIRE(again.size() == 1);
  CHECK(again[0].kind == SpendChangeKind::tripped);
  CHECK(bench.advance(121'999).empty());
  CHECK(bench.advance(122'000).size() == 1);
}

TEST_CASE("a probe that never ends is followed by another", "[spend_breaker]") {
  SpendBreakerRule rule = rule_of(SpendWindowLimit{usd(5), 600});
  rule.half_open_after_s = 60;
  Bench bench(rule);
  REQUIRE(bench.spend(1'000, usd(5)).size() == 1);
  REQUIRE(bench.advance(61'000).size() == 1);
  REQUIRE(bench.advance(121'000).size() == 1);
}

TEST_CASE("without a time to half-open only a person closes a breaker", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  REQUIRE(bench.spend(1'000, usd(5)).size() == 1);
  CHECK_FALSE(bench.engine.next_due_ms().has_value());
  CHECK(bench.advance(1'000'000'000'000).empty());
  const std::string id = bench.only_id();
  CHECK_FALSE(bench.engine.reset("brk_other", {}));
  CHECK(bench.engine.reset(id, {}));
  CHECK_FALSE(bench.engine.reset(id, {}));
  CHECK(bench.engine.open().empty());
}

TEST_CASE("a reset without an allowance counts anew", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  REQUIRE(bench.spend(1'000, usd(50)).size() == 1);
  REQUIRE(bench.engine.reset(bench.only_id(), {}));
  CHECK(bench.spend(1'100, cents(499)).empty());
  CHECK(bench.spend(1'200, cents(1)).size() == 1);
}

TEST_CASE("an allowance is spent before a breaker is judged again, by all that was counted", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  REQUIRE(bench.spend(1'000, usd(5)).size() == 1);
  const std::string id = bench.only_id();
  REQUIRE(bench.engine.reset(id, usd(20)));
  CHECK(bench.engine.allowance_of(id) == usd(20));
  CHECK(bench.spend(1'100, cents(1'999)).empty());
  CHECK(bench.engine.allowance_of(id) == cents(1));
  const auto again = bench.spend(1'200, cents(1));
  REQUIRE(again.size() == 1);
  CHECK(again[0].breaker.trip.why == "it spent 25.00 USD within 60 s; the limit is 5.00 USD");
}

TEST_CASE("what another node's engine closed is closed and keeps its count", "[spend_breaker]") {
  SpendBreakerRule rule = rule_of(SpendWindowLimit{usd(5), 60});
  rule.half_open_after_s = 7;
  Bench bench(rule);
  CHECK(bench.engine.half_open_after_s("rule") == 7);
  CHECK(bench.engine.half_open_after_s("another") == 0);
  CHECK_FALSE(bench.engine.close("brk_unknown"));
  bench.spend(1'000, usd(5));
  CHECK(bench.engine.close(bench.only_id()));
  CHECK(bench.engine.open().empty());
  CHECK(bench.engine.take_changes().empty());
  CHECK(bench.spend(2'000, usd(0)).size() == 1);
}

TEST_CASE("what the ledger knows is open again after a restart", "[spend_breaker]") {
  SpendBreakerRule rule = rule_of(SpendWindowLimit{usd(5), 60});
  Bench before(rule);
  const BreakerTripped trip = before.spend(1'000, usd(5)).at(0).breaker.trip;
  rule.half_open_after_s = 60;
  Bench after(rule);
  after.engine.restore(trip, -59'000);  // tripped 59 s before this process began
  REQUIRE(after.engine.open().contains(trip.id));
  CHECK(after.advance(999).empty());
  CHECK(after.advance(1'000).size() == 1);
  CHECK(after.spend(1'100, cents(1)).at(0).kind == SpendChangeKind::closed);
  after.engine.restore_allowance(trip.id, usd(2));
  CHECK(after.spend(1'200, usd(1)).empty());
  CHECK(after.spend(1'300, usd(5)).size() == 1);
}

TEST_CASE("a rule that goes closes its breakers; one that stays keeps its counts", "[spend_breaker]") {
  const SpendBreakerRule one = rule_of(SpendWindowLimit{usd(5), 60}, "user:*", "one");
  const SpendBreakerRule two = rule_of(SpendWindowLimit{usd(10), 60}, "user:*", "two");
  Bench bench(one);
  bench.engine.set_rules({one, two});
  REQUIRE(bench.spend(1'000, usd(6)).size() == 1);
  bench.engine.set_rules({two});
  const auto changes = bench.engine.take_changes();
  REQUIRE(changes.size() == 1);
  CHECK(changes[0].kind == SpendChangeKind::closed);
  CHECK(bench.spend(1'100, usd(4)).size() == 1);
}

TEST_CASE("memory is bounded by the longest idle going first", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}, "key:*"));
  bench.engine = SpendBreakerEngine(SpendEngineLimits{.tracked_max = 100, .open_max = 10});
  bench.engine.set_rules({rule_of(SpendWindowLimit{usd(5), 60}, "key:*")});
  for (int i = 0; i < 1'000; ++i) {
    bench.base.key = key_of("key_" + std::to_string(i), "ann");
    CHECK(bench.spend(1'000, usd(4)).empty());
    bench.base.key = key_of("key_0", "ann");
    CHECK(bench.spend(1'000, {}).empty());  // busy: never forgotten
  }
  CHECK(bench.engine.tracked() == 100);
  CHECK(bench.spend(1'001, usd(1)).size() == 1);
  for (int i = 1'000; i < 1'100; ++i) {
    bench.base.key = key_of("key_" + std::to_string(i), "ann");
    bench.spend(1'002, usd(9));
  }
  CHECK(bench.engine.open().size() == 10);
  CHECK(bench.engine.trips_dropped() == 91);
}

TEST_CASE("times that go back change nothing", "[spend_breaker]") {
  Bench bench(rule_of(SpendWindowLimit{usd(5), 60}));
  CHECK(bench.spend(1'000'000, usd(4)).empty());
  CHECK(bench.spend(1'000, usd(1)).size() == 1);
}

TEST_CASE("by seeds: a window breaker agrees with a naive sum over its steps", "[spend_breaker]") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    Random random(seed);
    const std::uint32_t window_s = 1 + static_cast<std::uint32_t>(random.below(120));
    const PicoUsd limit = cents(1 + static_cast<std::int64_t>(random.below(500)));
    Bench bench(rule_of(SpendWindowLimit{limit, window_s}));
    const std::int64_t step_ms = window_s * 1'000 / 32;
    std::deque<std::pair<std::int64_t, PicoUsd>> spent;
    std::int64_t now = static_cast<std::int64_t>(random.below(1'000'000));
    bool open = false;
    for (int i = 0; i < 400; ++i) {
      now += static_cast<std::int64_t>(random.below(window_s * 200));
      const PicoUsd cost = cents(static_cast<std::int64_t>(random.below(40)));
      spent.emplace_back(now / step_ms, cost);
      while (spent.front().first <= now / step_ms - 32) spent.pop_front();
      PicoUsd sum;
      for (const auto& [step, amount] : spent) sum += amount;
      const bool tripped = !bench.spend(now, cost).empty();
      INFO("seed " << seed << " event " << i);
      REQUIRE(tripped == (!open && sum >= limit));
      open = open || tripped;
      if (open && random.below(4) == 0) {
        REQUIRE(bench.engine.reset(bench.only_id(), {}));
        spent.clear();
        open = false;
      }
    }
  }
}

TEST_CASE("by seeds: the same events give the same changes, and every open breaker was told of", "[spend_breaker]") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const auto run = [seed] {
      Random random(seed);
      SpendBreakerEngine engine(SpendEngineLimits{.tracked_max = 64, .open_max = 32});
      std::vector<SpendBreakerRule> rules = {
          rule_of(SpendWindowLimit{usd(3), 30}, "user:*", "w"), rule_of(SpendRateLimit{4, cents(50), 10, 5}, "team:*", "r"),
          rule_of(SpendSessionLimit{40, usd(4), 10}, "key:*", "s"), rule_of(SpendRepeatLimit{4, 20}, "key:*", "p")};
      for (SpendBreakerRule& rule : rules) rule.half_open_after_s = static_cast<std::uint32_t>(random.below(20));
      engine.set_rules(rules);
      std::vector<std::string> story;
      std::set<std::string> open;
      std::int64_t now = 0;
      for (int i = 0; i < 2'000; ++i) {
        now += static_cast<std::int64_t>(random.below(900));
        SpendEvent event;
        const std::string who = std::to_string(random.below(5));
        event.key = key_of("key_" + who, "user" + who);
        event.conversation = random.below(4);
        event.request = random.below(9);
        event.cost = cents(static_cast<std::int64_t>(random.below(60)));
        event.started_ms = now - static_cast<std::int64_t>(random.below(3'000));
        event.time_ms = now;
        event.ended = random.below(5) != 0;
        engine.record(event);
        for (const SpendChange& change : engine.take_changes()) {
          const std::string& id = change.breaker.trip.id;
          story.push_back(std::to_string(static_cast<int>(change.kind)) + id);
          if (change.kind == SpendChangeKind::tripped) open.insert(id);
          else if (change.kind == SpendChangeKind::closed) REQUIRE(open.erase(id) == 1);
          else REQUIRE(open.contains(id));
        }
        if (!open.empty() && random.below(10) == 0) {
          REQUIRE(engine.reset(*open.begin(), cents(static_cast<std::int64_t>(random.below(3)) * 100)));
          open.erase(open.begin());
        }
        REQUIRE(open.size() == engine.open().size());
      }
      return story;
    };
    REQUIRE(run() == run());
  }
}

}  // namespace outlast::gateway::spend_breaker_engine_test
