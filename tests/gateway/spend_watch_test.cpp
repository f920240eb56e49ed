// What a lane does for spend breakers, over the whole way of a request.
#include "gateway/spend_watch.hpp"

#include "tests/gateway/gateway_bench.hpp"

namespace spend_watch_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using Catch::Contains;

namespace {

struct KeptEvents final : SpendSink {
  void report(std::vector<SpendEvent> batch) override {
    for (SpendEvent& event : batch) events.push_back(std::move(event));
  }
  std::vector<SpendEvent> events;
};

OpenBreaker breaker_of(const std::string& id, SpendSubject subject, SpendAction action = SpendAction::hold) {
  OpenBreaker breaker;
  breaker.trip = {id, "rule", std::string(name_of(subject.kind)) + ":" + subject.value, subject.session, action, "it spent a lot"};
  breaker.subject = std::move(subject);
  breaker.requests_per_minute = 1;
  breaker.half_open_requests = 1;
  return breaker;
}

// A gateway whose lane has spend breakers, with one rule of each kind.
struct WatchBench : GatewayBench {
  WatchBench() {
    services.spend = &lane;
    rules.resize(2);
    rules[0].limit = SpendSessionLimit{};
    rules[1].limit = SpendRepeatLimit{};
    gates.publish(rules);
  }
  ~WatchBench() { context.drop_pending(); }
  void open(const OpenBreaker& breaker) {
    gates.tripped(breaker, "https://ops/breakers/" + breaker.trip.id);
    gates.publish(rules);
  }
  std::vector<SpendEvent> events() {
    lane.flush();
    return std::exchange(sink.events, {});
  }

  std::vector<SpendBreakerRule> rules;
  KeptEvents sink;
  SpendBoard spend_board;
  SpendGates gates{spend_board};
  SpendPort port_of_lane{spend_board, sink, {1, 2}};
  SpendLane lane{port_of_lane};
};

}  // namespace

TEST_CASE("a request is reported once, with what it cost", "[spend_breaker]") {
  WatchBench bench;
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  const auto events = bench.events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].ended);
  CHECK(events[0].cost == bench.meter.only<Settlement>().attempt.cost);
  CHECK(events[0].cost.value > 0);
  CHECK(events[0].provider == "p0");
  CHECK(events[0].model == "m0");
  CHECK(events[0].conversation != 0);
  CHECK(events[0].request != 0);
  CHECK(events[0].started_ms <= events[0].time_ms);
}

TEST_CASE("every attempt is reported, and the request ends once", "[spend_breaker]") {
  WatchBench bench;
  bench.upstream(0).then(answers(401, R"({"error":{"message":"no"}})"));
  bench.upstream(1).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  auto events = bench.events();
  REQUIRE(events.size() == 2);
  CHECK_FALSE(events[0].ended);
  CHECK(events[0].provider == "p0");
  CHECK(events[1].ended);
  CHECK(events[1].provider == "p1");
  bench.upstream(0).then(answers(400, R"({"error":{"message":"bad"}})"));
  CHECK(bench.answer_to(true).status == 400);
  events = bench.events();
  REQUIRE_FALSE(events.empty());
  CHECK(events.back().ended);
  PicoUsd sum;
  for (const SpendEvent& event : events) sum += event.cost;
  CHECK(sum.value == 0);
}

TEST_CASE("a held key is refused before anything is reserved or asked", "[spend_breaker]") {
  WatchBench bench;
  bench.open(breaker_of("brk_a", {ScopeKind::organisation, "acme", {}}));
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 402);
  CHECK_THAT(answer.body, Contains(R"("code":"spend_breaker_open")") && Contains(R"("breaker":"brk_a")") &&
                              Contains(R"("link":"https://ops/breakers/brk_a")") && Contains("outlast breaker reset brk_a"));
  CHECK(answer.headers.at("x-should-retry") == "false");
  CHECK(bench.upstream(0).received.empty());
  CHECK(bench.meter.all<Reservation>().empty());
  CHECK(bench.metrics.spend_held.value() == 1);
  CHECK(bench.events().empty());
}

TEST_CASE("a throttled key gets 429 with the seconds to wait", "[spend_breaker]") {
  WatchBench bench;
  bench.open(breaker_of("brk_a", {ScopeKind::organisation, "acme", {}}, SpendAction::throttle));
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  const auto answer = bench.answer_to(true);
  CHECK(answer.status == 429);
  CHECK_THAT(answer.body, Contains(R"("code":"spend_breaker_throttled")"));
  CHECK(std::stoi(answer.headers.at("retry-after")) <= 60);
  CHECK(bench.metrics.spend_throttled.value() == 1);
}

TEST_CASE("one request passes a half-open breaker", "[spend_breaker]") {
  WatchBench bench;
  bench.open(breaker_of("brk_a", {ScopeKind::organisation, "acme", {}}));
  bench.gates.half_opened("brk_a");
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  CHECK(bench.answer_to(true).status == 402);
}

TEST_CASE("a held conversation and a held request are known again", "[spend_breaker]") {
  WatchBench bench;
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  const SpendEvent seen = bench.events().at(0);
  const bool whole_conversation = GENERATE(true, false);
  bench.open(breaker_of("brk_a", {ScopeKind::key, seen.key->id,
                                  whole_conversation ? conversation_subject(seen.conversation) : request_subject(seen.request)}));
  CHECK(bench.answer_to(true).status == 402);
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true, "m0").status == (whole_conversation ? 402 : 200));
}

TEST_CASE("what is held is left out of the plan, and refused where nothing is left", "[spend_breaker]") {
  WatchBench bench;
  bench.open(breaker_of("brk_a", {ScopeKind::provider, "p0", {}}));
  bench.upstream(1).then(streams_words("hello"));
  CHECK(bench.answer_to(true).headers.at("x-outlast-deployment") == "d1");
  CHECK(bench.answer_to(true, "m0").status == 402);
  bench.open(breaker_of("brk_b", {ScopeKind::model, "m1", {}}));
  const auto answer = bench.answer_to(true);
  CHECK(answer.status == 402);
  CHECK_THAT(answer.body, Contains("brk_a"));
  CHECK(bench.upstream(0).received.empty());
}

TEST_CASE("without rules nothing is reported", "[spend_breaker]") {
  WatchBench bench;
  bench.gates.publish({});
  bench.upstream(0).then(streams_words("hello"));
  CHECK(bench.answer_to(true).status == 200);
  CHECK(bench.events().empty());
}

}  // namespace spend_watch_test
