#include "actors/message_call.hpp"

#include <catch2/catch.hpp>

#include <algorithm>

#include "cluster/call_state.hpp"
#include "proto/link_codec.hpp"
#include "tests/gateway/gateway_bench.hpp"

namespace message_call_test {

using namespace outlast;
using namespace outlast::gateway::testing;
using Catch::Contains;
using link::ErrorKind;

namespace {

constexpr link::Credit plenty{1'000, 1'000'000};

// A client's call as the network thread holds it; what the lane sends is read from the outbox.
class Call {
 public:
  explicit Call(link::Credit credit = plenty)
      : state(std::make_shared<cluster::CallState>(outbox_, "peer", 7, credit)) {}

  // All that the client was sent, so far.
  const std::vector<link::NodeMessage>& messages() {
    std::vector<cluster::Outgoing> arrived;
    outbox_->take(arrived);
    for (const cluster::Outgoing& outgoing : arrived) {
      auto message = link::decode_from_node(outgoing.frame->bytes());
      REQUIRE(message);
      messages_.push_back(std::move(*message));
      ended_ = ended_ || outgoing.ends_call;
    }
    return messages_;
  }
  std::vector<chat::Event> events() {
    std::vector<chat::Event> all;
    for (const auto& message : messages()) {
      if (const auto* batch = std::get_if<link::Events>(&message)) {
        all.insert(all.end(), batch->events.begin(), batch->events.end());
      }
    }
    return all;
  }
  std::string text() {
    std::string all;
    for (const auto& event : events()) {
      if (const auto* delta = std::get_if<chat::TextDelta>(&event)) all += delta->text;
    }
    return all;
  }
  bool ended() {
    messages();
    return ended_;
  }
  template <class T>
  T last() {
    REQUIRE_FALSE(messages().empty());
    const auto* message = std::get_if<T>(&messages_.back());
    REQUIRE(message != nullptr);
    return *message;
  }

  std::shared_ptr<cluster::Outbox> outbox_ = std::make_shared<cluster::Outbox>();
  std::shared_ptr<cluster::CallState> state;

 private:
  std::vector<link::NodeMessage> messages_;
  bool ended_ = false;
};

// Upstreams that the test steps, and a lane on its own thread.
struct Bench {
  explicit Bench(BenchOptions options = {}) : node(std::move(options)) { REQUIRE(lane.start("127.0.0.1:0")); }

  void serve(Call& call, const std::string& model = "smart", std::int64_t deadline_ms = 20'000) {
    chat::Request request;
    request.model = model;
    request.messages.push_back({chat::Role::user, {chat::Text{"hello"}}});
    request.max_tokens = 64;
    actors::serve_message_call(
        lane, std::make_shared<cluster::ChatCall>(call.state, std::move(request), node.board.get()->keys->find(node.key_text),
                                                  "service", node.clock.monotonic_ns() + deadline_ms * 1'000'000));
  }
  template <class Condition>
  bool wait(Condition condition) { return node.context.run_until(condition); }
  // A copy, made on the lane once the call is over, of what was metered.
  const FakeMeter& metered() {
    REQUIRE(wait([this] { return lane.metrics().requests.value() > 0 && lane.requests_in_flight() == 0; }));
    lane.run([this](gateway::LaneServices&, gateway::SnapshotReader&) -> boost::asio::awaitable<void> {
      operations = meter->operations;
      copied = true;
      co_return;
    });
    REQUIRE(wait([this] { return copied.load(); }));
    kept.operations = operations;
    return kept;
  }

  GatewayBench node;
  FakeMeter* meter = nullptr;  // the lane's
  FakeMeter kept{node.context};
  std::vector<MeteringOperation> operations;
  std::atomic<bool> copied{false};
  gateway::Lane lane{gateway::LaneOptions{}, node.board, node.clock,
                     [this](boost::asio::io_context& context) {
                       auto made = std::make_unique<FakeMeter>(context);
                       meter = made.get();
                       return made;
                     },
                     node.outcome_sink};
};

}  // namespace

TEST_CASE("a message call gets typed events and an end that names its place in the ledger", "[message]") {
  Bench bench;
  bench.node.upstream(0).then(streams_words("typed words"));
  Call call;
  bench.serve(call);
  REQUIRE(bench.wait([&call] { return call.ended(); }));
  const auto events = call.events();
  REQUIRE(events.size() >= 3);
  CHECK(std::holds_alternative<chat::Start>(events.front()));
  const auto* finish = std::get_if<chat::Finish>(&events.back());
  REQUIRE(finish != nullptr);
  CHECK(finish->reason == chat::StopReason::stop);
  CHECK(finish->usage.output_total() == 7);
  CHECK(call.text() == "typed words");
  const auto done = call.last<link::Done>();
  CHECK(done.deployment == "d0");
  CHECK(done.attempts == 1);
  const auto& meter = bench.metered();
  CHECK(done.ledger_id == meter.only<Reservation>().request_id);
  CHECK(meter.only<Settlement>().attempt.status == AttemptStatus::ok);
}

TEST_CASE("a message call's events wait for the client's credit", "[message]") {
  Bench bench;
  std::vector<std::string> events = {openai_role()};
  for (int i = 0; i < 50; ++i) events.push_back(openai_text(std::to_string(i % 10)));
  events.push_back(openai_end());
  bench.node.upstream(0).then(streams(events));
  Call call({1, 1'000'000});
  bench.serve(call);
  REQUIRE(bench.wait([&call] { return call.state->waits_for_credit(); }));
  CHECK(call.messages().size() == 1);
  CHECK_FALSE(call.ended());
  std::uint64_t grants = 0;
  REQUIRE(bench.wait([&] {
    if (call.state->waits_for_credit()) {
      call.state->grant({1, 0});
      ++grants;
    }
    return call.ended();
  }));
  CHECK(grants > 1);
  std::string expected;
  for (int i = 0; i < 50; ++i) expected += std::to_string(i % 10);
  CHECK(call.text() == expected);
}

TEST_CASE("a client that cancels ends the upstream's work, and what came is settled", "[message]") {
  Bench bench;
  Gate never(bench.node.context);
  bench.node.upstream(0).then(streams_through(never, {openai_role(), openai_text("some")}, {}));
  Call call;
  bench.serve(call);
  REQUIRE(bench.wait([&call] { return call.text() == "some"; }));
  call.state->cancel(cluster::CancelReason::client_cancelled);
  REQUIRE(bench.wait([&bench] { return bench.node.upstream(0).disconnected == 1; }));
  const auto settled = bench.metered().only<Settlement>().attempt;
  CHECK(settled.status == AttemptStatus::caller_gone);
  CHECK(settled.estimated());
}

TEST_CASE("a client that cancels while the lane waits for credit is let go", "[message]") {
  Bench bench;
  bench.node.upstream(0).then(streams({openai_role(), openai_text("a"), openai_text("b"), openai_text("c"), openai_end()}));
  Call call({1, 1'000'000});
  bench.serve(call);
  REQUIRE(bench.wait([&call] { return call.state->waits_for_credit(); }));
  call.state->cancel(cluster::CancelReason::link_lost);
  const auto& meter = bench.metered();
  CHECK(meter.all<Settlement>().size() == 1);
  CHECK(meter.all<VoidReservation>().empty());
}

TEST_CASE("a call that is cancelled before the lane takes it up asks no provider for an answer", "[message]") {
  Bench bench;
  bench.node.upstream(0).otherwise = streams_words("for nobody");
  Call call;
  call.state->cancel(cluster::CancelReason::shutdown);
  bench.serve(call);
  const auto& meter = bench.metered();
  CHECK(meter.all<Settlement>().size() + meter.all<VoidReservation>().size() == meter.all<Reservation>().size());
  CHECK(call.messages().empty());
}

TEST_CASE("refusals of a message call have a kind that its client can act on", "[message]") {
  struct Row {
    const char* what;
    gateway::testing::Upstream::Script script;
    std::string model;
    ErrorKind kind;
    bool retryable;
    std::uint32_t retry_after_ms;
  };
  const Row rows[] = {
      {"unknown model", says("x"), "nobody", ErrorKind::unknown_model, false, 0},
      {"caller's fault", answers(400, R"({"error":{"message":"bad tool"}})"), "d0", ErrorKind::invalid_request, false, 0},
      {"throttled", answers(429, "{}", {{"retry-after", "17"}}), "d0", ErrorKind::rate_limited, true, 17'000},
      {"credential", answers(401, "{}"), "d0", ErrorKind::provider_failed, true, 1'000},
      {"overload", answers(500, "{}"), "d0", ErrorKind::provider_failed, true, 1'000},
      {"conflict", answers(409, "{}"), "d0", ErrorKind::provider_failed, true, 0},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Bench bench;
    bench.node.upstream(0).otherwise = row.script;
    Call call;
    bench.serve(call, row.model);
    REQUIRE(bench.wait([&call] { return call.ended(); }));
    const auto error = call.last<link::RequestError>();
    CHECK(error.kind == row.kind);
    CHECK(error.retryable == row.retryable);
    CHECK(error.retry_after_ms == row.retry_after_ms);
    CHECK_FALSE(error.message.empty());
    CHECK(call.events().empty());
  }
}

TEST_CASE("a message call beyond a rate limit fails at once, with the words and the wait of HTTP", "[message][rates]") {
  Bench bench;
  bench.node.set_rates({{.scope = *gateway::RateScope::parse("key:*"), .requests = {.per_minute = 1, .burst = 1}}});
  bench.node.upstream(0).otherwise = streams_words("hello");
  Call first;
  bench.serve(first);
  REQUIRE(bench.wait([&first] { return first.ended(); }));
  CHECK(first.text() == "hello");
  Call second;
  bench.serve(second);
  REQUIRE(bench.wait([&second] { return second.ended(); }));
  const auto error = second.last<link::RequestError>();
  CHECK(error.kind == ErrorKind::rate_limited);
  CHECK(error.retryable);
  CHECK((error.retry_after_ms > 30'000 && error.retry_after_ms <= 60'000));
  CHECK_THAT(error.message, Catch::StartsWith("Rate limit reached for key:key_1 on requests per minute (RPM): Limit 1, "));
  CHECK(bench.node.upstream(0).received.size() == 1);
}

TEST_CASE("a message call that fails after its first content ends as cut", "[message]") {
  Bench bench;
  bench.node.upstream(0).then(streams_then_cuts({openai_role(), openai_text("some")}));
  Call call;
  bench.serve(call);
  REQUIRE(bench.wait([&call] { return call.ended(); }));
  const auto error = call.last<link::RequestError>();
  CHECK(error.kind == ErrorKind::cut);
  CHECK_THAT(error.message, Contains("in mid-answer"));
  CHECK(bench.metered().only<Settlement>().attempt.status == AttemptStatus::cut);
}

TEST_CASE("a call's own deadline ends the wait for content", "[message]") {
  Bench bench;
  Gate never(bench.node.context);
  bench.node.upstream(0).otherwise = streams_through(never, {openai_role()}, {});
  bench.node.upstream(1).otherwise = streams_through(never, {openai_role()}, {});
  Call call;
  bench.serve(call, "smart", 300);
  REQUIRE(bench.wait([&call] { return call.ended(); }));
  CHECK(call.last<link::RequestError>().kind == ErrorKind::provider_failed);
  CHECK(bench.metered().all<VoidReservation>().size() == 1);
}

}  // namespace message_call_test
