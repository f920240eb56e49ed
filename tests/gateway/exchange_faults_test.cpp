// Many requests at once under a random schedule of faults, leavings and slow writes, replayed from a seed: whatever
// happens, each reservation ends exactly once and no caller is lied to.
#include <catch2/catch.hpp>

#include <set>

#include "tests/gateway/gateway_bench.hpp"

namespace exchange_faults_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;

namespace {

constexpr std::size_t upstreams = 3;

asio::awaitable<void> pause(asio::io_context& context, std::uint64_t ms) {
  asio::steady_timer timer(context, std::chrono::milliseconds(ms));
  co_await timer.async_wait(asio::use_awaitable);
}

// Serves each request well, or with a fault and at a moment that the dice choose.
class RandomUpstream {
 public:
  RandomUpstream(asio::io_context& context, Random& random) : context_(context), random_(random) {}

  asio::awaitable<void> operator()(http::Request& request, http::Response& response) {
    const bool stream = request.body.find("\"stream\":true") != std::string_view::npos;
    const std::uint64_t dice = random_.below(100);
    const std::uint64_t delay_ms = random_.below(8);
    if (delay_ms > 4) co_await pause(context_, delay_ms);
    if (dice < 20) {
      static constexpr unsigned statuses[] = {400, 401, 404, 408, 409, 413, 429, 500, 502, 503, 529};
      const unsigned status = statuses[random_.below(std::size(statuses))];
      co_await response.send(status, {}, random_.below(2) == 0 ? "{}" : "not json");
    } else if (dice < 25) {
      response.cut();
    } else if (!stream) {
      std::string body = openai_whole("words");
      if (dice < 30) body = R"({"error":{"message":"late"}})";
      co_await response.send(200, json_headers, body);
    } else {
      co_await serve_stream(response, dice);
    }
  }

 private:
  asio::awaitable<void> serve_stream(http::Response& response, std::uint64_t dice) {
    co_await response.start(200, stream_headers);
    std::vector<std::string> events;
    events.push_back(openai_role());
    for (std::uint64_t i = random_.below(4); i < 5; ++i) events.push_back(openai_text("word"));
    events.push_back(openai_end());
    const std::size_t last = dice < 50 ? random_.below(events.size()) : events.size();
    for (std::size_t i = 0; i < last; ++i) {
      const auto written = co_await response.write(events[i]);
      if (!written) co_return response.cut();
      if (random_.below(3) == 0) co_await pause(context_, 1 + random_.below(4));
    }
    if (dice < 35) co_return response.cut();
    if (dice < 42) co_await response.write("data: {\"error\":{\"message\":\"broken\"}}\n\n");
    if (dice < 45) co_await pause(context_, 400);  // a stall
    co_await response.finish("");
  }

  asio::io_context& context_;
  Random& random_;
};

struct Sent {
  std::unique_ptr<Caller> caller;
  bool stream = false;
  std::optional<std::size_t> leaves_after_bytes;
  bool left = false;
  bool over = false;

  void look() {
    if (over) return;
    if (leaves_after_bytes && caller->bytes().size() >= *leaves_after_bytes) {
      caller->close();
      left = true;
    }
    over = left || caller->answered() || caller->ended();
  }
};

void check_what_the_caller_saw(const Sent& sent, const std::map<std::string, AttemptStatus>& settled,
                               const std::set<std::string>& voided) {
  const auto answer = sent.caller->answer();
  INFO(sent.caller->bytes());
  REQUIRE(answer.status != 0);
  REQUIRE(answer.headers.contains("x-outlast-request-id"));
  const std::string id = answer.headers.at("x-outlast-request-id");
  const bool clean_stream = answer.body.find("[DONE]") != std::string::npos;
  if (answer.status != 200) {
    CHECK(answer.complete);
    CHECK(voided.contains(id));
    CHECK(answer.headers.at("x-should-retry") == "false");
    CHECK(answer.body.find("\"error\"") != std::string::npos);
  } else if (sent.stream && !clean_stream) {
    CHECK_FALSE(answer.complete);
    CHECK(answer.body.find("data: {\"error\"") != std::string::npos);
    CHECK(settled.at(id) == AttemptStatus::cut);
  } else {
    CHECK(answer.complete);
    CHECK(answer.body.find("\"error\"") == std::string::npos);
    CHECK(settled.at(id) == AttemptStatus::ok);
  }
}

// Reservation, attempts in order, one end, nothing after it; and no end costs more than was reserved.
void check_ledger(const FakeMeter& meter, std::map<std::string, AttemptStatus>& settled, std::set<std::string>& voided) {
  struct Progress {
    PicoUsd reserved;
    PicoUsd cost;
    std::uint16_t attempts = 0;
    bool ended = false;
  };
  std::map<RequestId, Progress> requests;
  const auto open = [&requests](const RequestId& id) -> Progress& {
    REQUIRE(requests.contains(id));
    REQUIRE_FALSE(requests[id].ended);
    return requests[id];
  };
  for (const auto& operation : meter.operations) {
    if (const auto* reservation = std::get_if<Reservation>(&operation)) {
      REQUIRE(requests.emplace(reservation->request_id, Progress{.reserved = reservation->amount}).second);
    } else if (const auto* attempt = std::get_if<AttemptLine>(&operation)) {
      Progress& request = open(attempt->request_id);
      CHECK(attempt->number == ++request.attempts);
      request.cost += attempt->cost;
    } else if (const auto* settlement = std::get_if<Settlement>(&operation)) {
      Progress& request = open(settlement->attempt.request_id);
      CHECK(settlement->attempt.number == ++request.attempts);
      request.cost += settlement->attempt.cost;
      request.ended = true;
      CHECK(request.cost <= request.reserved);
      settled[settlement->attempt.request_id.to_string()] = settlement->attempt.status;
    } else {
      const auto& id = std::get<VoidReservation>(operation).request_id;
      open(id).ended = true;
      voided.insert(id.to_string());
    }
  }
  for (const auto& [id, request] : requests) {
    INFO(id.to_string());
    CHECK(request.ended);
  }
}

}  // namespace

TEST_CASE("whatever happens, each reservation is settled or voided exactly once", "[exchange]") {
  const auto seed = GENERATE(range(1, 9));
  Random random(static_cast<std::uint64_t>(seed));
  GatewayBench bench({.upstreams = upstreams,
                      .timeouts = {.connect_ms = 5'000, .first_byte_ms = 250, .idle_ms = 250},
                      .policy = {.deadline_ms = 10'000, .drain_on_disconnect = seed % 2 == 0},
                      .max_concurrency = 6});
  if (seed % 4 == 0) bench.refuse_connections(1);
  bench.meter.delay_ms = seed % 3 == 0 ? 0 : 3;
  RandomUpstream upstream(bench.context, random);
  for (std::size_t i = 0; i < upstreams; ++i) {
    bench.upstream(i).otherwise = [&upstream](http::Request& request, http::Response& response) {
      return upstream(request, response);
    };
  }
  constexpr std::size_t requests = 120;
  constexpr std::size_t at_once = 12;
  std::vector<Sent> all(requests);
  std::size_t started = 0;
  const bool finished = bench.context.run_until([&] {
    std::size_t under_way = 0;
    for (std::size_t i = 0; i < started; ++i) {
      all[i].look();
      under_way += all[i].over ? 0 : 1;
    }
    for (; started < requests && under_way < at_once; ++started, ++under_way) {
      Sent& sent = all[started];
      sent.stream = random.below(3) != 0;
      if (random.below(4) == 0) sent.leaves_after_bytes = random.below(2) == 0 ? 0 : random.below(1'500);
      sent.caller = bench.ask(sent.stream);
    }
    return started == requests && under_way == 0 && bench.metrics.requests_in_flight.value() == 0;
  });
  REQUIRE(finished);

  std::map<std::string, AttemptStatus> settled;
  std::set<std::string> voided;
  check_ledger(bench.meter, settled, voided);
  for (const Sent& sent : all) {
    const bool refused_at_once = sent.caller->answer().headers.contains("x-outlast-attempts") &&
                                 sent.caller->answer().headers.at("x-outlast-attempts") == "0";
    if (!sent.left && !refused_at_once) check_what_the_caller_saw(sent, settled, voided);
  }
  for (std::size_t i = 0; i < upstreams; ++i) CHECK(bench.gauge(i).in_flight() == 0);
  CHECK(bench.metrics.requests.value() <= requests);  // some left before they were heard
  CHECK(settled.size() + voided.size() == bench.meter.all<Reservation>().size());
  CHECK(settled.size() > requests / 4);
}

}  // namespace exchange_faults_test
