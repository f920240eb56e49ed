// Exchanges under hard budgets: when the provider is asked, what slices keep, and what callers are told.
#include "gateway/tranches.hpp"
#include "tests/gateway/gateway_bench.hpp"

namespace exchange_budget_test {

using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using namespace outlast;
using Catch::Contains;

namespace {

constexpr PicoUsd plenty{1'000'000'000'000};
constexpr PicoUsd cost_of_an_answer{18'000};  // 11 + 7 tokens at 1,000 pico-USD

BudgetShortfall shortfall_of(PicoUsd left, PicoUsd needed) {
  return {"bud_0", "search", {500'000'000'000'000}, left, needed, BudgetPeriod::total, 0};
}

// A streamed request with room for `max_tokens`.
std::string long_body(std::uint64_t max_tokens) {
  return R"({"model":"smart","messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":)" +
         std::to_string(max_tokens) + "}";
}

std::vector<std::string> long_answer(std::size_t pieces, std::size_t piece_bytes) {
  std::vector<std::string> events{openai_role()};
  for (std::size_t i = 0; i < pieces; ++i) events.push_back(openai_text(std::string(piece_bytes, 'x')));
  events.push_back(openai_end());
  return events;
}

}  // namespace

TEST_CASE("a request that the slices cover asks the provider at once and gives back what it did not cost", "[exchange]") {
  GatewayBench bench;
  const auto organisation = bench.set_budget("organisation:acme", plenty);
  const auto provider = bench.set_budget("provider:p1", plenty);  // may serve, but does not
  bench.meter.held = true;
  bench.upstream(0).then(says("hi"));
  const auto caller = bench.ask(false);
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).finished == 1; }));
  CHECK(organisation->left() < plenty);
  bench.meter.release();
  CHECK(bench.answer_of(*caller).status == 200);
  bench.context.settle_down();
  CHECK(bench.meter.only<Reservation>().from_slices);
  CHECK(bench.meter.only<Reservation>().candidates == std::vector<Purchase>{{"p0", "m0"}, {"p1", "m1"}});
  CHECK(organisation->left() == plenty - cost_of_an_answer);
  CHECK(provider->left() == plenty);
  CHECK(bench.metrics.admitted_in_slice.value() == 1);
}

TEST_CASE("a request that the slices do not cover asks no provider before the ledger's word", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("organisation:acme", {10});
  bench.meter.held = true;
  bench.upstream(0).then(says("hi"));
  const auto caller = bench.ask(false);
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.waits == 1; }));
  bench.context.settle_down();
  CHECK(bench.upstream(0).received.empty());
  CHECK_FALSE(bench.meter.only<Reservation>().from_slices);
  CHECK(slice->left().value == 10);
  bench.meter.release();
  CHECK(bench.answer_of(*caller).status == 200);
  bench.context.settle_down();
  CHECK(slice->left().value == 10);  // it came from the budget, and returns there
  CHECK(bench.metrics.admitted_in_step.value() == 1);
}

TEST_CASE("a request beyond a budget is refused in the caller's dialect and no provider is asked", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("organisation:acme", {10});
  bench.meter.refuses = [](const MeteringOperation&) { return true; };
  bench.meter.why = {RefusalKind::budget_exhausted, shortfall_of({5'000}, {900'000})};
  bench.meter.why.shortfall->resets_ms = bench.clock.wall_ms() + 7'200'000;
  const auto answer = bench.answer_to(GENERATE(true, false));
  CHECK(answer.status == 429);
  CHECK(answer.headers.at("x-should-retry") == "false");
  const int retry_after_s = std::stoi(answer.headers.at("retry-after"));
  CHECK(retry_after_s > 7'100);
  CHECK(retry_after_s <= 7'200);
  CHECK_THAT(answer.body, Contains(R"("code":"budget_exhausted")") && Contains(R"("type":"insufficient_quota")") &&
                              Contains("'search'"));
  CHECK(bench.upstream(0).received.empty());
  CHECK(slice->left().value == 10);
  CHECK(slice->refusals() == 1);
  CHECK(bench.metrics.budget_refusals.value() == 1);
  CHECK(bench.meter.all<Settlement>().empty());
}

TEST_CASE("a refusal of what would fit is tried again: a lane had the money in its hands", "[exchange]") {
  GatewayBench bench;
  bench.set_budget("organisation:acme", {10});
  int refusals = 3;
  bench.meter.refuses = [&refusals](const MeteringOperation&) { return refusals-- > 0; };
  bench.meter.why = {RefusalKind::budget_exhausted, shortfall_of({2'000'000}, {900'000})};
  bench.upstream(0).then(says("hi"));
  CHECK(bench.answer_to(false).status == 200);
  CHECK(bench.meter.all<Reservation>().size() == 4);
  CHECK(bench.meter.all<Reservation>()[0].request_id == bench.meter.all<Reservation>()[3].request_id);
}

TEST_CASE("a request that failed everywhere leaves its slices whole", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("key:key_1", plenty);
  bench.upstream(0).otherwise = answers(500, "{}");
  bench.upstream(1).otherwise = answers(500, "{}");
  CHECK(bench.answer_to(false).status == 503);
  bench.context.settle_down();
  CHECK(bench.meter.all<VoidReservation>().size() == 1);
  CHECK(slice->left() == plenty);
}

TEST_CASE("a reservation from slices that the ledger refuses after all puts back everything", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("organisation:acme", plenty);
  bench.meter.refuses = [](const MeteringOperation&) { return true; };
  bench.meter.why = {RefusalKind::budget_exhausted, shortfall_of({}, {900'000})};
  bench.upstream(0).then(says("hi"));
  CHECK(bench.answer_to(false).status == 429);
  bench.context.settle_down();
  CHECK(slice->left() == plenty);
  CHECK(slice->given() == 0);
}

TEST_CASE("max_tokens is forced upstream where the caller gave none", "[exchange]") {
  GatewayBench bench;
  bench.set_budget("organisation:acme", plenty);
  bench.upstream(0).then(says("hi"));
  const auto caller = bench.connect();
  caller->send(bench.chat(R"({"model":"smart","messages":[{"role":"user","content":"hello"}]})"));
  CHECK(bench.answer_of(*caller).status == 200);
  CHECK_THAT(bench.upstream(0).received.at(0).body, Contains(R"("max_tokens":4096)"));
}

TEST_CASE("a long stream under a hard budget reserves in tranches", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("organisation:acme", plenty);
  bench.upstream(0).then(streams(long_answer(40, 500)));
  const auto caller = bench.connect();
  caller->send(bench.chat(long_body(12'000)));
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 200);
  CHECK(answer.complete);
  bench.context.settle_down();
  const auto reservation = bench.meter.only<Reservation>();
  CHECK(reservation.output_tokens_max == Tranches::tokens_min);
  const auto extensions = bench.meter.all<ReservationExtension>();
  REQUIRE(extensions.size() >= 2);
  std::uint64_t tokens = reservation.output_tokens_max;
  PicoUsd amount = reservation.amount;
  for (std::size_t i = 0; i < extensions.size(); ++i) {
    CHECK(extensions[i].number == i + 1);
    CHECK(extensions[i].from_slices);
    tokens += extensions[i].output_tokens;
    amount += extensions[i].amount;
  }
  CHECK(tokens == 12'000);
  CHECK(amount == PicoUsd{static_cast<std::int64_t>((reservation.input_tokens_max + tokens) * 1'000)});
  CHECK(slice->left() == plenty - cost_of_an_answer);
  CHECK_THAT(bench.upstream(0).received.at(0).body, Contains(R"("max_tokens":12000)"));
}

TEST_CASE("without a hard budget a stream is reserved whole", "[exchange]") {
  GatewayBench bench;
  bench.set_budget("organisation:acme", {}, true);
  bench.upstream(0).then(streams(long_answer(10, 500)));
  const auto caller = bench.connect();
  caller->send(bench.chat(long_body(12'000)));
  CHECK(bench.answer_of(*caller).complete);
  CHECK(bench.meter.only<Reservation>().output_tokens_max == 12'000);
  CHECK(bench.meter.all<ReservationExtension>().empty());
}

TEST_CASE("a stream whose next tranche is refused is cut with an error of its own and settled", "[exchange]") {
  GatewayBench bench;
  // Enough for the first tranche and no more.
  const auto slice = bench.set_budget("organisation:acme", {3'000'000});
  bench.meter.refuses = [](const MeteringOperation& operation) {
    return std::holds_alternative<ReservationExtension>(operation);
  };
  bench.meter.why = {RefusalKind::budget_exhausted, shortfall_of({100}, {900'000})};
  bench.upstream(0).then(streams(long_answer(40, 500)));
  const auto caller = bench.connect();
  caller->send(bench.chat(long_body(100'000)));
  REQUIRE(bench.context.run_until([&caller] { return caller->ended(); }));
  const auto answer = caller->answer();
  CHECK(answer.status == 200);
  CHECK_FALSE(answer.complete);
  CHECK_THAT(answer.body, Contains(R"("code":"budget_exhausted")") && Contains("'search'") && !Contains("[DONE]"));
  bench.context.settle_down();
  const AttemptLine settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::cut);
  CHECK(settled.usage.source == UsageSource::estimated);
  CHECK(slice->left() == PicoUsd{3'000'000} - settled.cost);
  CHECK(bench.metrics.budget_cuts.value() == 1);
  CHECK(slice->refusals() == 1);
  // The deployment did nothing wrong.
  bench.outcomes.flush();
  for (const auto& [name, outcome] : bench.outcome_sink.seen) CHECK(outcome.failures == 0);
}

TEST_CASE("tags and the session go into the reservation and nowhere else", "[exchange]") {
  GatewayBench bench;
  const auto slice = bench.set_budget("tag:nightly", plenty);
  bench.upstream(0).then(says("hi"));
  std::string request = bench.chat(GatewayBench::body_of("smart", false));
  request.insert(request.find("\r\n") + 2, "X-Outlast-Tags: nightly, batch\r\nX-Outlast-Session: crawl-7\r\n");
  const auto caller = bench.connect();
  caller->send(request);
  CHECK(bench.answer_of(*caller).status == 200);
  bench.context.settle_down();
  CHECK(bench.meter.only<Reservation>().tags == std::vector<std::string>{"nightly", "batch"});
  CHECK(bench.meter.only<Reservation>().session == "crawl-7");
  CHECK(slice->left() == plenty - cost_of_an_answer);
  CHECK(bench.upstream(0).received.at(0).body.find("nightly") == std::string::npos);
}

TEST_CASE("malformed tags are refused before anything is reserved", "[exchange]") {
  GatewayBench bench;
  std::string request = bench.chat(GatewayBench::body_of("smart", false));
  request.insert(request.find("\r\n") + 2, "X-Outlast-Tags: a,,b\r\n");
  const auto caller = bench.connect();
  caller->send(request);
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 400);
  CHECK_THAT(answer.body, Contains("x-outlast-tags"));
  CHECK(bench.meter.operations.empty());
}

}  // namespace exchange_budget_test
