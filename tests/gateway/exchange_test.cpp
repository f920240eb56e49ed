#include <catch2/catch.hpp>

#include "tests/gateway/gateway_bench.hpp"

namespace exchange_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using Catch::Contains;

namespace {

// The first attempt fails and the second serves: what the ledger then holds.
void check_failed_over(const FakeMeter& meter, AttemptStatus first) {
  const auto reservation = meter.only<Reservation>();
  const auto attempt = meter.only<AttemptLine>();
  const auto settled = meter.only<Settlement>().attempt;
  CHECK(std::holds_alternative<Reservation>(meter.operations.front()));
  CHECK(attempt.request_id == reservation.request_id);
  CHECK(settled.request_id == reservation.request_id);
  CHECK(attempt.number == 1);
  CHECK(attempt.deployment == "d0");
  CHECK(attempt.status == first);
  CHECK(attempt.cost == PicoUsd{});
  CHECK(settled.number == 2);
  CHECK(settled.deployment == "d1");
  CHECK(settled.status == AttemptStatus::ok);
  CHECK(meter.all<VoidReservation>().empty());
}

constexpr std::string_view overloaded_error =
    R"({"error":{"message":"Overloaded","type":"overloaded_error","code":null}})";

}  // namespace

TEST_CASE("a whole answer passes unchanged, and its usage is settled", "[exchange]") {
  GatewayBench bench;
  bench.upstream(0).then(says("hello back"));
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 200);
  CHECK(answer.body == openai_whole("hello back"));
  CHECK(answer.headers.at("content-type") == "application/json");
  CHECK(answer.headers.at("x-outlast-deployment") == "d0");
  CHECK(answer.headers.at("x-outlast-attempts") == "1");
  const auto reservation = bench.meter.only<Reservation>();
  CHECK(answer.headers.at("x-outlast-request-id") == reservation.request_id.to_string());
  CHECK(reservation.tenant.to_string() == "acme/search/ann");
  CHECK(reservation.key_id == "key_1");
  CHECK(reservation.route == "smart");
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.request_id == reservation.request_id);
  CHECK(settled.status == AttemptStatus::ok);
  CHECK(settled.http_status == 200);
  CHECK(settled.usage.input_total() == 11);
  CHECK(settled.usage.output_total() == 7);
  CHECK(settled.usage.source == UsageSource::reported);
  CHECK(settled.cost == PicoUsd{18'000});
  CHECK(settled.cost <= reservation.amount);
  CHECK(bench.meter.operations.size() == 2);
}

TEST_CASE("the upstream gets the deployment's model and the provider's key, and nothing of the tenant's", "[exchange]") {
  GatewayBench bench;
  bench.upstream(0).then(says("hi"));
  bench.answer_to(false);
  REQUIRE(bench.upstream(0).received.size() == 1);
  const auto& received = bench.upstream(0).received[0];
  CHECK(received.target == "/v1/chat/completions");
  CHECK(received.authorization == "Bearer sk-provider-0");
  CHECK(received.body == GatewayBench::body_of("m0", false));
}

TEST_CASE("a stream passes, with usage asked for, read on the way and stripped again", "[exchange]") {
  GatewayBench bench;
  bench.upstream(0).then(streams_words("hello"));
  const auto answer = bench.answer_to(true);
  CHECK(answer.status == 200);
  CHECK(answer.complete);
  CHECK_THAT(answer.headers.at("content-type"), Contains("text/event-stream"));
  CHECK(answer.headers.at("x-outlast-deployment") == "d0");
  CHECK(answer.body == openai_role() + openai_text("hello") + openai_event("{}", R"("stop")") + "data: [DONE]\n\n");
  CHECK_THAT(bench.upstream(0).received.at(0).body, Contains(R"("include_usage":true)"));
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.usage.output_total() == 7);
  CHECK(settled.usage.source == UsageSource::reported);
}

TEST_CASE("an anthropic upstream is translated, whole and streamed", "[exchange]") {
  GatewayBench bench({.upstreams = 1, .dialects = {Dialect::anthropic}});
  bench.upstream(0).then(answers(
      200,
      R"({"id":"msg_1","type":"message","role":"assistant","model":"m0","content":[{"type":"text","text":"bonjour"}],"stop_reason":"end_turn","usage":{"input_tokens":5,"output_tokens":3}})"));
  const auto whole = bench.answer_to(false);
  CHECK(whole.status == 200);
  CHECK_THAT(whole.body, Contains(R"("content":"bonjour")") && Contains("chat.completion"));
  CHECK(bench.upstream(0).received.at(0).target == "/v1/messages");
  CHECK(bench.upstream(0).received[0].api_key == "sk-provider-0");
  CHECK(bench.meter.only<Settlement>().attempt.usage.output_text == 3);

  bench.upstream(0).then(streams(
      {"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_2\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m0\",\"content\":[],\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n",
       "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
       "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"salut\"}}\n\n",
       "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
       "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":4}}\n\n",
       "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"}));
  const auto stream = bench.answer_to(true);
  CHECK(stream.status == 200);
  CHECK_THAT(stream.body, Contains(R"("content":"salut")") && Catch::EndsWith("data: [DONE]\n\n"));
  CHECK(bench.meter.all<Settlement>().at(1).attempt.usage.output_text == 4);
}

TEST_CASE("no byte and no status reach the caller before the first content", "[exchange]") {
  GatewayBench bench;
  Gate gate(bench.context);
  const bool fails = GENERATE(true, false);
  if (fails) {
    bench.upstream(0).then([&gate](http::Request&, http::Response& response) -> asio::awaitable<void> {
      co_await response.start(200, stream_headers);
      co_await response.write(": a comment\n\n");
      co_await response.write(openai_role());
      co_await gate.passed();
      response.cut();
    });
    bench.upstream(1).then(streams_words("from the second"));
  } else {
    bench.upstream(0).then(streams_through(gate, {openai_role()}, {openai_text("at last"), openai_end()}));
  }
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).received.size() == 1; }));
  bench.context.settle_down();
  CHECK(caller->bytes().empty());
  gate.open();
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 200);
  CHECK(answer.complete);
  CHECK(answer.headers.at("x-outlast-attempts") == (fails ? "2" : "1"));
  CHECK_THAT(answer.body, Contains(fails ? "from the second" : "at last"));
  if (fails) check_failed_over(bench.meter, AttemptStatus::overloaded);
}

TEST_CASE("content is passed on as it comes", "[exchange]") {
  GatewayBench bench;
  Gate gate(bench.context);
  bench.upstream(0).then(streams_through(gate, {openai_role(), openai_text("one")}, {openai_text("two"), openai_end()}));
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&caller] { return caller->answer().body.ends_with(openai_text("one")); }));
  CHECK_FALSE(caller->answered());
  gate.open();
  CHECK_THAT(bench.answer_of(*caller).body, Contains("two"));
}

TEST_CASE("a failure before the first content is served by the next deployment, unseen", "[exchange]") {
  struct Fault {
    const char* what;
    bool stream;
    Upstream::Script script;
    AttemptStatus status;
  };
  const std::string error_event = "data: " + std::string(overloaded_error) + "\n\n";
  const Fault faults[] = {
      {"500", false, answers(500, "{}"), AttemptStatus::overloaded},
      {"502 that is not JSON", true, answers(502, "<html>"), AttemptStatus::overloaded},
      {"503", true, answers(503, ""), AttemptStatus::overloaded},
      {"529", true, answers(529, std::string(overloaded_error)), AttemptStatus::overloaded},
      {"429 without a wait", true, answers(429, "{}"), AttemptStatus::throttled},
      {"429 with a wait", false, answers(429, "{}", {{"retry-after", "30"}}), AttemptStatus::throttled},
      {"401", true, answers(401, "{}"), AttemptStatus::credential},
      {"403", false, answers(403, "{}"), AttemptStatus::credential},
      {"404 of the model", true, answers(404, R"({"error":{"message":"no model","code":"model_not_found"}})"),
       AttemptStatus::model_gone},
      {"closed without an answer", true, closes_at_once(), AttemptStatus::overloaded},
      {"cut in the preamble", true, streams_then_cuts({openai_role()}), AttemptStatus::overloaded},
      {"an end in the preamble", true, streams({openai_role()}), AttemptStatus::overloaded},
      {"an empty stream", true, streams({}), AttemptStatus::overloaded},
      {"an error as the first event", true, streams({error_event}), AttemptStatus::overloaded},
      {"an error after the preamble", true, streams({openai_role(), error_event}), AttemptStatus::overloaded},
      {"an error as a whole answer", false, answers(200, std::string(overloaded_error)), AttemptStatus::overloaded},
      {"a whole answer cut in its middle", false,
       streams_then_cuts({openai_whole("half").substr(0, 120)}), AttemptStatus::overloaded},
      {"bytes that are not of the dialect", true, streams({"data: {\"choices\": 7\n\n"}), AttemptStatus::overloaded},
      {"a whole answer that is not JSON", false, answers(200, "<html>it works</html>"), AttemptStatus::overloaded},
  };
  for (const Fault& fault : faults) {
    INFO(fault.what);
    GatewayBench bench;
    bench.upstream(0).then(fault.script);
    bench.upstream(1).then(fault.stream ? streams_words("rescued") : says("rescued"));
    const auto answer = bench.answer_to(fault.stream);
    CHECK(answer.status == 200);
    CHECK(answer.complete);
    CHECK_THAT(answer.body, Contains("rescued") && !Contains("error") && !Contains("half"));
    CHECK(answer.headers.at("x-outlast-deployment") == "d1");
    CHECK(answer.headers.at("x-outlast-attempts") == "2");
    check_failed_over(bench.meter, fault.status);
    CHECK(bench.metrics.failovers.value() == 1);
  }
}

TEST_CASE("a deployment where nobody listens is served by the next", "[exchange]") {
  GatewayBench bench;
  bench.refuse_connections(0);
  bench.upstream(1).then(says("rescued"));
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 200);
  check_failed_over(bench.meter, AttemptStatus::overloaded);
  CHECK(bench.meter.only<AttemptLine>().http_status == 0);
}

TEST_CASE("a deployment that does not begin its answer in time is served by the next", "[exchange]") {
  GatewayBench bench({.timeouts = {.connect_ms = 5'000, .first_byte_ms = 150, .idle_ms = 20'000}});
  Gate never(bench.context);
  SECTION("no head") {
    bench.upstream(0).then([&never](http::Request&, http::Response& response) -> asio::awaitable<void> {
      co_await never.passed();
      response.cut();
    });
  }
  SECTION("a head, and then nothing") { bench.upstream(0).then(streams_through(never, {openai_role()}, {})); }
  SECTION("comments for ever") {
    bench.upstream(0).then([&bench](http::Request&, http::Response& response) -> asio::awaitable<void> {
      co_await response.start(200, stream_headers);
      asio::steady_timer beat(bench.context);
      for (bool heard = true; heard;) {
        const auto written = co_await response.write(": still thinking\n\n");
        heard = written.has_value();
        beat.expires_after(std::chrono::milliseconds(20));
        co_await beat.async_wait(asio::use_awaitable);
      }
    });
  }
  bench.upstream(1).then(streams_words("rescued"));
  const auto answer = bench.answer_to(true);
  CHECK(answer.status == 200);
  CHECK_THAT(answer.body, Contains("rescued"));
  check_failed_over(bench.meter, AttemptStatus::overloaded);
  CHECK(bench.context.run_until([&bench] { return bench.upstream(0).disconnected == 1; }));
}

TEST_CASE("the deadline of the route ends the wait for content", "[exchange]") {
  GatewayBench bench({.policy = {.deadline_ms = 250}});
  Gate never(bench.context);
  const bool stream = GENERATE(true, false);
  for (std::size_t i = 0; i < 2; ++i) bench.upstream(i).otherwise = streams_through(never, {stream ? openai_role() : "{"}, {});
  const auto answer = bench.answer_to(stream);
  CHECK(answer.status == 503);
  CHECK(answer.headers.at("x-should-retry") == "false");
  CHECK(bench.meter.only<VoidReservation>().request_id == bench.meter.only<Reservation>().request_id);
  CHECK(bench.meter.only<AttemptLine>().duration_ms >= 250);
  CHECK(bench.meter.only<AttemptLine>().duration_ms < 5'000);
}

TEST_CASE("a failure after the first content is an error event and a cut, never a clean end", "[exchange]") {
  GatewayBench bench({.timeouts = {.connect_ms = 5'000, .first_byte_ms = 20'000, .idle_ms = 150}});
  Gate never(bench.context);
  const std::string before = openai_role() + openai_text("some words");
  SECTION("the connection is cut") { bench.upstream(0).then(streams_then_cuts({before})); }
  SECTION("the body ends too early") { bench.upstream(0).then(streams({before})); }
  SECTION("the upstream stalls") { bench.upstream(0).then(streams_through(never, {before}, {})); }
  SECTION("the upstream says so") {
    bench.upstream(0).then(streams({before, "data: " + std::string(overloaded_error) + "\n\n"}));
  }
  SECTION("the bytes are not of the dialect") { bench.upstream(0).then(streams({before, "data: {\n\n"})); }
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&caller] { return caller->ended(); }));
  const auto answer = caller->answer();
  CHECK(answer.status == 200);
  CHECK_FALSE(answer.complete);
  CHECK_THAT(answer.body, Catch::StartsWith(before) && Contains("data: {\"error\"") && !Contains("[DONE]"));
  CHECK(bench.upstream(1).received.empty());
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::cut);
  CHECK(settled.estimated());
  CHECK(settled.usage.output_text == 3);  // 10 bytes
  CHECK(settled.cost > PicoUsd{});
  CHECK(settled.http_status != 0);
  CHECK(bench.meter.operations.size() == 2);
  CHECK(bench.metrics.cut.value() == 1);
  REQUIRE(bench.outcome_sink.seen.size() == 1);
  CHECK(bench.outcome_sink.seen[0].second.failures == 1);
}

TEST_CASE("nothing is told before the ledger has the request on disk", "[exchange]") {
  GatewayBench bench;
  bench.meter.held = true;
  const bool stream = GENERATE(true, false);
  bench.upstream(0).then(stream ? streams_words("words") : says("words"));
  const auto caller = bench.ask(stream);
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.waits == 1; }));
  bench.context.settle_down();
  CHECK(caller->bytes().empty());
  bench.meter.release();
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 200);
  CHECK(answer.complete);
  CHECK_THAT(answer.body, Contains("words"));
  if (stream) CHECK_THAT(answer.body, Catch::EndsWith("data: [DONE]\n\n"));
  CHECK(bench.meter.only<Settlement>().attempt.status == AttemptStatus::ok);
}

TEST_CASE("an error answer waits for its reservation's end too", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.meter.held = true;
  bench.upstream(0).otherwise = answers(400, "{}");
  const auto caller = bench.ask(false);
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.waits == 1; }));
  bench.context.settle_down();
  CHECK(caller->bytes().empty());
  bench.meter.release();
  CHECK(bench.answer_of(*caller).status == 400);
}

TEST_CASE("an answer whose reservation the ledger refused is 503, and no fault of the deployment", "[exchange]") {
  GatewayBench bench;
  bench.meter.refuse_durable = true;
  const bool stream = GENERATE(true, false);
  bench.upstream(0).then(stream ? streams_words("words") : says("words"));
  const auto answer = bench.answer_to(stream);
  CHECK(answer.status == 503);
  CHECK_THAT(answer.body, Contains("ledger_unavailable") && !Contains("words"));
  CHECK(answer.headers.at("retry-after") == "1");
  CHECK(answer.headers.at("x-should-retry") == "true");
  CHECK(bench.meter.operations.size() == 2);
  CHECK(bench.upstream(1).received.empty());
  CHECK(bench.metrics.ledger_refusals.value() == 1);
  for (const auto& [name, outcome] : bench.outcome_sink.seen) CHECK(outcome.failures == 0);
}

TEST_CASE("a reservation that the ledger does not take is 503, and no provider is asked", "[exchange]") {
  GatewayBench bench;
  bench.meter.full = true;
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 503);
  CHECK_THAT(answer.body, Contains("ledger_unavailable"));
  CHECK(answer.headers.at("retry-after") == "1");
  CHECK(answer.headers.at("x-should-retry") == "true");
  CHECK(bench.upstream(0).received.empty());
  CHECK(bench.meter.operations.empty());
  CHECK(bench.metrics.ledger_refusals.value() == 1);
}

TEST_CASE("a caller that leaves in mid-stream ends the upstream's work, and what came is estimated", "[exchange]") {
  GatewayBench bench;
  Gate never(bench.context);
  bench.upstream(0).then(streams_through(never, {openai_role(), openai_text("eight by")}, {}));
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&caller] { return caller->bytes().find("eight by") != std::string::npos; }));
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).disconnected == 1; }));
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::caller_gone);
  CHECK(settled.estimated());
  CHECK(settled.usage.output_text == 2);
  CHECK(settled.cost > PicoUsd{});
  CHECK(bench.meter.operations.size() == 2);
  CHECK(bench.upstream(1).received.empty());
  CHECK(bench.metrics.callers_gone.value() == 1);
  bench.outcomes.flush();
  for (const auto& [name, outcome] : bench.outcome_sink.seen) CHECK(outcome.failures == 0);
}

TEST_CASE("a caller that leaves before the first content ends the upstream's work, and pays for its input", "[exchange]") {
  GatewayBench bench;
  Gate never(bench.context);
  bench.upstream(0).then([&never](http::Request&, http::Response& response) -> asio::awaitable<void> {
    co_await never.passed();
    response.cut();
  });
  const auto caller = bench.ask(GENERATE(true, false));
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).received.size() == 1; }));
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).disconnected == 1; }));
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::caller_gone);
  CHECK(settled.estimated());
  CHECK(settled.usage.input_uncached > 0);
  CHECK(settled.usage.output_total() == 0);
}

TEST_CASE("with drain_on_disconnect the upstream is read to its usage", "[exchange]") {
  GatewayBench bench({.policy = {.drain_on_disconnect = true}});
  Gate gate(bench.context);
  const bool after_content = GENERATE(true, false);
  if (after_content) {
    bench.upstream(0).then(streams_through(gate, {openai_role(), openai_text("a")}, {openai_text("b"), openai_end()}));
  } else {
    bench.upstream(0).then(streams_through(gate, {openai_role()}, {openai_text("ab"), openai_end()}));
  }
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&] {
    return after_content ? caller->bytes().find(openai_text("a")) != std::string::npos : !bench.upstream(0).received.empty();
  }));
  bench.context.settle_down();
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.callers_gone.value() == 1; }));
  bench.context.settle_down();
  CHECK(bench.upstream(0).disconnected == 0);
  CHECK(bench.meter.all<Settlement>().empty());
  gate.open();
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  const auto settled = bench.meter.only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::caller_gone);
  CHECK(settled.usage.source == UsageSource::reported);
  CHECK(settled.usage.output_total() == 7);
  CHECK(bench.upstream(0).finished == 1);
  bench.outcomes.flush();
  REQUIRE(bench.outcome_sink.seen.size() == 1);
  CHECK(bench.outcome_sink.seen[0].second.successes == 1);
}

TEST_CASE("a caller that leaves while the ledger writes is settled once", "[exchange]") {
  GatewayBench bench;
  bench.meter.held = true;
  const bool stream = GENERATE(true, false);
  bench.upstream(0).then(stream ? streams_words("words") : says("words"));
  const auto caller = bench.ask(stream);
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.waits == 1; }));
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.callers_gone.value() == 1; }));
  bench.meter.release();
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  // A whole answer had come to its end; a stream was only begun.
  CHECK(bench.meter.only<Settlement>().attempt.status == (stream ? AttemptStatus::caller_gone : AttemptStatus::ok));
  CHECK(bench.meter.operations.size() == 2);
}

TEST_CASE("a caller that leaves during the wait before a retry ends the wait", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.upstream(0).then(answers(429, "{}", {{"retry-after", "9"}}));
  bench.upstream(0).otherwise = says("nobody listens");
  const auto caller = bench.ask(false);
  REQUIRE(bench.context.run_until([&bench] { return bench.meter.all<AttemptLine>().size() == 1; }));
  const auto left = std::chrono::steady_clock::now();
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  CHECK(std::chrono::steady_clock::now() - left < std::chrono::seconds(5));
  CHECK(bench.upstream(0).received.size() == 1);
  CHECK(bench.meter.all<VoidReservation>().size() == 1);
}

TEST_CASE("the same deployment is asked once more when it is the only one", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.upstream(0).then(answers(503, ""));
  bench.upstream(0).then(says("better now"));
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 200);
  CHECK(answer.headers.at("x-outlast-attempts") == "2");
  CHECK(bench.meter.only<Settlement>().attempt.number == 2);
}

TEST_CASE("the same deployment is asked no more than twice", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.upstream(0).otherwise = answers(503, "");
  CHECK(bench.answer_to(false).status == 503);
  CHECK(bench.upstream(0).received.size() == 2);
}

TEST_CASE("a short Retry-After is waited for", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.upstream(0).then(answers(429, "{}", {{"retry-after-ms", "250"}}));
  bench.upstream(0).then(says("now"));
  const auto asked = std::chrono::steady_clock::now();
  CHECK(bench.answer_to(false).status == 200);
  CHECK(std::chrono::steady_clock::now() - asked >= std::chrono::milliseconds(250));
  REQUIRE_FALSE(bench.outcome_sink.seen.empty());
  CHECK(bench.outcome_sink.seen[0].second.throttled_ms == 250);
}

TEST_CASE("when nothing is left the caller gets the error table's answer, and no invitation to retry", "[exchange]") {
  struct Row {
    const char* what;
    Upstream::Script script;
    unsigned status;
    const char* contains;
    const char* retry_after;  // null: none
    std::size_t attempts;
  };
  const std::string filtered = R"({"error": {"message": "blocked", "type": "invalid_request_error", "code": "content_filter"}})";
  const std::string conflict = R"({"error": {"message": "busy with this", "type": "conflict", "code": null}})";
  const std::string gone = R"({"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}})";
  const std::string bad_key = R"({"error": {"message": "Incorrect API key provided: sk-secret", "code": "invalid_api_key"}})";
  const Row rows[] = {
      {"caller's fault", answers(400, filtered), 400, filtered.c_str(), nullptr, 1},
      {"too large", answers(413, filtered), 413, filtered.c_str(), nullptr, 1},
      {"credential", answers(401, bad_key), 503, "can serve now", "1", 1},
      {"forbidden", answers(403, bad_key), 503, "can serve now", "1", 1},
      {"throttled", answers(429, "{}", {{"retry-after", "17"}}), 429, "rate_limit_exceeded", "17", 1},
      {"throttled, part of a second", answers(429, "{}", {{"retry-after-ms", "10500"}}), 429, "rate_limit_exceeded", "11", 1},
      {"throttled, no word", answers(429, "{}"), 429, "rate_limit_exceeded", "1", 1},
      {"overload", answers(500, "{}"), 503, "upstream_unavailable", "1", 2},
      {"overload with a wait", answers(503, "{}", {{"retry-after", "7"}}), 503, "upstream_unavailable", "7", 2},
      {"gone", closes_at_once(), 503, "upstream_unavailable", "1", 2},
      {"conflict", answers(409, conflict), 409, conflict.c_str(), nullptr, 2},
      {"model gone", answers(404, gone), 404, "model_not_found", nullptr, 1},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    GatewayBench bench({.upstreams = 1});
    bench.upstream(0).otherwise = row.script;
    const auto answer = bench.answer_to(false);
    CHECK(answer.status == row.status);
    CHECK_THAT(answer.body, Contains(row.contains) && Contains("\"error\"") && !Contains("sk-secret"));
    CHECK(answer.headers.at("x-should-retry") == "false");
    CHECK(answer.headers.at("content-type") == "application/json");
    CHECK(answer.headers.at("x-outlast-attempts") == std::to_string(row.attempts));
    CHECK(answer.headers.at("x-outlast-deployment") == "d0");
    CHECK(answer.headers.contains("x-outlast-request-id"));
    CHECK(answer.headers.contains("retry-after") == (row.retry_after != nullptr));
    if (row.retry_after != nullptr) CHECK(answer.headers.at("retry-after") == row.retry_after);
    CHECK(bench.meter.all<AttemptLine>().size() == row.attempts);
    CHECK(bench.meter.all<VoidReservation>().size() == 1);
    CHECK(bench.meter.all<Settlement>().empty());
    CHECK(bench.metrics.refused.value() == 1);
  }
}

TEST_CASE("the caller's fault is not tried elsewhere", "[exchange]") {
  GatewayBench bench;
  bench.upstream(0).then(answers(422, R"({"error":{"message":"bad tool"}})"));
  CHECK(bench.answer_to(true).status == 422);
  CHECK(bench.upstream(1).received.empty());
}

TEST_CASE("no more attempts are made than the route allows", "[exchange]") {
  GatewayBench bench({.upstreams = 4, .policy = {.attempts_max = 3}});
  for (std::size_t i = 0; i < 4; ++i) bench.upstream(i).otherwise = answers(500, "");
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 503);
  CHECK(answer.headers.at("x-outlast-attempts") == "3");
  CHECK(bench.upstream(3).received.empty());
}

TEST_CASE("a deployment takes no more requests at once than its max_concurrency", "[exchange]") {
  GatewayBench bench({.max_concurrency = 1});
  Gate gate(bench.context);
  for (std::size_t i = 0; i < 2; ++i) {
    bench.upstream(i).otherwise = streams_through(gate, {openai_role()}, {openai_text("x"), openai_end()});
  }
  const auto first = bench.ask(true);
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(0).received.size() == 1; }));
  const auto second = bench.ask(true);
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(1).received.size() == 1; }));
  CHECK(bench.gauge(0).in_flight() == 1);
  CHECK(bench.gauge(1).in_flight() == 1);
  const auto refused = bench.answer_to(true);
  CHECK(refused.status == 503);
  CHECK_THAT(refused.body, Contains("max_concurrency"));
  CHECK(refused.headers.contains("retry-after"));
  CHECK(refused.headers.at("x-outlast-attempts") == "0");
  CHECK(bench.meter.all<Reservation>().size() == 2);
  gate.open();
  CHECK(bench.answer_of(*first).headers.at("x-outlast-deployment") == "d0");
  CHECK(bench.answer_of(*second).headers.at("x-outlast-deployment") == "d1");
  REQUIRE(bench.context.run_until([&bench] { return bench.metrics.requests_in_flight.value() == 0; }));
  CHECK(bench.gauge(0).in_flight() == 0);
  CHECK(bench.answer_to(true).status == 200);
}

TEST_CASE("a half-open deployment is probed by one request at a time", "[exchange]") {
  GatewayBench bench;
  Gate gate(bench.context);
  bench.make_half_open(1);  // a lower priority, and yet it goes first
  bench.upstream(1).then(streams_through(gate, {openai_role()}, {openai_text("probe"), openai_end()}));
  bench.upstream(0).otherwise = streams_words("other");
  const auto probe = bench.ask(true);
  REQUIRE(bench.context.run_until([&bench] { return bench.upstream(1).received.size() == 1; }));
  for (int i = 0; i < 3; ++i) CHECK_THAT(bench.answer_to(true).body, Contains("other"));
  CHECK(bench.upstream(1).received.size() == 1);
  gate.open();
  CHECK_THAT(bench.answer_of(*probe).body, Contains("probe"));
  std::size_t probes = 0;
  for (const auto& [name, outcome] : bench.outcome_sink.seen) {
    if (!outcome.probe) continue;
    ++probes;
    CHECK(name == "d1");
    CHECK(outcome.successes == 1);
  }
  CHECK(probes == 1);
}

TEST_CASE("a probe that fails is not retried on its deployment", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.make_half_open(0);
  bench.upstream(0).otherwise = answers(500, "");
  CHECK(bench.answer_to(false).status == 503);
  CHECK(bench.upstream(0).received.size() == 1);
  REQUIRE(bench.outcome_sink.seen.size() == 1);
  CHECK(bench.outcome_sink.seen[0].second.probe);
  CHECK(bench.outcome_sink.seen[0].second.failures == 1);
}

TEST_CASE("a probe whose caller leaves tells nothing, and is over", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.make_half_open(0);
  Gate never(bench.context);
  bench.upstream(0).otherwise = streams_through(never, {openai_role(), openai_text("x")}, {});
  const auto caller = bench.ask(true);
  REQUIRE(bench.context.run_until([&caller] { return !caller->bytes().empty(); }));
  caller->close();
  REQUIRE(bench.context.run_until([&bench] { return !bench.outcome_sink.seen.empty(); }));
  CHECK(bench.outcome_sink.seen[0].second.probe);
  CHECK(bench.outcome_sink.seen[0].second.probe_neutral);
}

TEST_CASE("when every breaker is open the answer says when to come again, and nothing is reserved", "[exchange]") {
  GatewayBench bench;
  bench.make_open(0);
  bench.make_open(1);
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 503);
  const int wait_s = std::stoi(answer.headers.at("retry-after"));
  CHECK(wait_s >= 60);
  CHECK(wait_s <= 67);
  CHECK(bench.meter.operations.empty());
}

TEST_CASE("an open deployment is passed by", "[exchange]") {
  GatewayBench bench;
  bench.make_open(0);
  bench.upstream(1).then(says("from the second"));
  const auto answer = bench.answer_to(false);
  CHECK(answer.headers.at("x-outlast-deployment") == "d1");
  CHECK(answer.headers.at("x-outlast-attempts") == "1");
}

TEST_CASE("an unknown model is 404, and nothing is reserved", "[exchange]") {
  GatewayBench bench;
  const auto answer = bench.answer_to(true, "nobody");
  CHECK(answer.status == 404);
  CHECK_THAT(answer.body, Contains("model_not_found") && Contains("'nobody'"));
  CHECK(bench.meter.operations.empty());
}

TEST_CASE("without a price a request is served and flagged, or refused", "[exchange]") {
  GatewayBench bench({.upstreams = 1});
  bench.upstream(0).otherwise = says("words");
  bench.board.publish([&bench] {
    auto snapshot = std::make_shared<Snapshot>(*bench.board.get());
    snapshot->prices = std::make_shared<const PriceBook>("empty");
    snapshot->serving.refuse_unpriced = GENERATE(true, false);
    return snapshot;
  }());
  const bool refuse = bench.board.get()->serving.refuse_unpriced;
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == (refuse ? 503 : 200));
  if (refuse) {
    CHECK_THAT(answer.body, Contains("price_missing") && Contains("'m0'"));
    CHECK(bench.upstream(0).received.empty());
    CHECK(bench.meter.operations.empty());
  } else {
    CHECK_FALSE(bench.meter.only<Reservation>().price_known);
    CHECK_FALSE(bench.meter.only<Settlement>().attempt.price_known);
    CHECK(bench.metrics.unpriced.value() == 1);
  }
}

TEST_CASE("what one dialect has no word for is asked of a deployment whose dialect has", "[exchange]") {
  GatewayBench bench({.dialects = {Dialect::anthropic, Dialect::openai}});
  bench.make_half_open(0);
  bench.upstream(1).then(says("two of them"));
  const auto caller = bench.connect();
  caller->send(bench.chat(GatewayBench::body_of("smart", false, R"(,"n":2)")));
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 200);
  CHECK(answer.headers.at("x-outlast-deployment") == "d1");
  CHECK(answer.headers.at("x-outlast-attempts") == "1");
  CHECK(bench.upstream(0).received.empty());
  CHECK(bench.meter.only<Settlement>().attempt.number == 1);
  // Nobody asked the half-open deployment, so it proved nothing; its probe is over.
  REQUIRE(bench.outcome_sink.seen.size() == 1);
  CHECK(bench.outcome_sink.seen[0].first == "d0");
  CHECK(bench.outcome_sink.seen[0].second.probe_neutral);
}

TEST_CASE("what no deployment's dialect has a word for is 400 and names the field", "[exchange]") {
  GatewayBench bench({.upstreams = 1, .dialects = {Dialect::anthropic}});
  const auto caller = bench.connect();
  caller->send(bench.chat(GatewayBench::body_of("smart", false, R"(,"n":2)")));
  const auto answer = bench.answer_of(*caller);
  CHECK(answer.status == 400);
  CHECK_THAT(answer.body, Contains("unsupported") && Contains("'n'"));
  CHECK(bench.upstream(0).received.empty());
  CHECK(bench.meter.all<VoidReservation>().size() == 1);
  CHECK(bench.meter.all<AttemptLine>().empty());
}

TEST_CASE("connections to an upstream are kept, after streams too", "[exchange]") {
  GatewayBench bench;
  bench.upstream(0).otherwise = streams_words("again");
  for (int i = 0; i < 5; ++i) CHECK(bench.answer_to(true).complete);
  CHECK(bench.upstream(0).counters().connections_accepted == 1);
  CHECK(bench.upstream(0).received.size() == 5);
}

}  // namespace exchange_test
