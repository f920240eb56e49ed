#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "tests/gateway/gateway_bench.hpp"

namespace exchange_rates_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using Catch::Contains;

namespace {

// One per minute, so that what was taken stays taken for the length of a test.
RateLimitRule rule(const std::string& scope, std::uint64_t requests, std::uint64_t tokens = 0) {
  RateLimitRule made{.scope = *RateScope::parse(scope)};
  if (requests > 0) made.requests = {1, requests};
  if (tokens > 0) made.tokens = {1, tokens};
  return made;
}

}  // namespace

TEST_CASE("an answer without limits has no headers of limits", "[exchange][rates]") {
  GatewayBench bench;
  bench.upstream(0).then(says("hi"));
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 200);
  for (const auto& [name, value] : answer.headers) CHECK_FALSE(name.starts_with("x-ratelimit"));
}

TEST_CASE("answers, whole and streamed, tell what the tightest limit has left",
          "[exchange][rates]") {
  GatewayBench bench;
  bench.set_rates({rule("key:*", 5, 10'000), rule("team:acme/search", 9, 20'000)});
  bench.upstream(0).then(says("hi"));
  const auto whole = bench.answer_to(false);
  CHECK(whole.status == 200);
  CHECK(whole.headers.at("x-ratelimit-limit-requests") == "5");
  CHECK(whole.headers.at("x-ratelimit-remaining-requests") == "4");
  CHECK_THAT(whole.headers.at("x-ratelimit-reset-requests"), Contains("s"));
  CHECK(whole.headers.at("x-ratelimit-limit-tokens") == "10000");
  CHECK(whole.headers.at("x-ratelimit-remaining-tokens") == "9982");  // 18 were used

  bench.upstream(0).then(streams_words("hello"));
  const auto stream = bench.answer_to(true);
  CHECK(stream.headers.at("x-ratelimit-remaining-requests") == "3");
  const auto left = std::stoul(stream.headers.at("x-ratelimit-remaining-tokens"));
  CHECK(left < 9'982 - 64);  // the worst case, as long as it streams
  bench.upstream(0).then(says("hi"));
  CHECK(bench.answer_to(false).headers.at("x-ratelimit-remaining-tokens") == "9946");
}

TEST_CASE(
    "a request beyond its limit is 429 in OpenAI's shape, and reaches neither ledger nor provider",
    "[exchange][rates]") {
  GatewayBench bench;
  bench.set_rates({rule("team:acme/search", 1)});
  bench.upstream(0).otherwise = says("hi");
  REQUIRE(bench.answer_to(false).status == 200);
  const std::size_t operations = bench.meter.operations.size();
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 429);
  const auto error = nlohmann::json::parse(answer.body).at("error");
  CHECK(error.at("code") == "rate_limit_exceeded");
  CHECK(error.at("type") == "requests");
  CHECK_THAT(
      error.at("message").get<std::string>(),
      Contains("team:acme/search on requests per minute (RPM): Limit 1, Used 1, Requested 1."));
  CHECK(answer.headers.at("x-should-retry") == "true");
  const auto seconds = std::stoul(answer.headers.at("retry-after"));
  const auto milliseconds = std::stoul(answer.headers.at("retry-after-ms"));
  CHECK((seconds >= 50 && seconds <= 60));
  CHECK(seconds == (milliseconds + 999) / 1000);
  CHECK(answer.headers.at("x-ratelimit-remaining-requests") == "0");
  CHECK(bench.meter.operations.size() == operations);
  CHECK(bench.upstream(0).received.size() == 1);
  CHECK(bench.metrics.limited[static_cast<std::size_t>(RateScopeKind::team)][0].value() == 1);
}

TEST_CASE("tokens are bounded by the worst case at admission", "[exchange][rates]") {
  GatewayBench bench;
  bench.set_rates({rule("key:*", 0, 1'000)});
  Gate gate(bench.context);
  bench.upstream(0).then(streams_through(gate, {openai_role(), openai_text("a")}, {openai_end()}));
  const auto first = bench.ask(true);
  REQUIRE(bench.context.run_until(
      [&first] { return first->bytes().find("\"a\"") != std::string::npos; }));
  const auto second =
      bench.answer_to(false);  // a worst case is some 650 tokens, and 1,000 are there
  CHECK(second.status == 429);
  CHECK_THAT(second.body, Contains("tokens per minute (TPM)") && Contains(R"("type":"tokens")"));
  gate.open();
  CHECK(bench.answer_of(*first).status == 200);
  bench.upstream(0).then(says("now it fits"));
  CHECK(bench.answer_to(false).status == 200);
}

TEST_CASE("a limited deployment is left out, and all limited ones together are 429",
          "[exchange][rates]") {
  GatewayBench bench({.upstreams = 2});
  bench.set_rates({rule("deployment:d0", 1), rule("deployment:d1", 2)});
  for (std::size_t i : {0, 1}) bench.upstream(i).otherwise = says("hi");
  CHECK(bench.answer_to(false).headers.at("x-outlast-deployment") == "d0");
  for (int i = 0; i < 2; ++i) {
    const auto answer = bench.answer_to(false);
    CHECK(answer.status == 200);
    CHECK(answer.headers.at("x-outlast-deployment") == "d1");
    CHECK(answer.headers.at("x-outlast-attempts") == "1");
    CHECK_FALSE(answer.headers.contains("x-ratelimit-remaining-requests"));  // others share them
  }
  const std::size_t operations = bench.meter.operations.size();
  const auto refused = bench.answer_to(false);
  CHECK(refused.status == 429);
  CHECK_THAT(refused.body,
             Contains("Rate limit reached for deployment:d") && Contains("rate_limit_exceeded"));
  CHECK(refused.headers.at("x-should-retry") == "true");
  CHECK(bench.meter.operations.size() == operations);
}

TEST_CASE("a failover takes from the next deployment's limit, and a failed attempt stays counted",
          "[exchange][rates]") {
  GatewayBench bench({.upstreams = 2});
  bench.set_rates({rule("deployment:d0", 9, 100'000), rule("deployment:d1", 1, 100'000),
                   rule("key:*", 3, 100'000)});
  bench.upstream(0).otherwise = answers(500, "{}");
  bench.upstream(1).otherwise = says("hi");
  const auto answer = bench.answer_to(false);
  CHECK(answer.headers.at("x-outlast-deployment") == "d1");
  CHECK(answer.headers.at("x-ratelimit-remaining-requests") == "2");
  CHECK(answer.headers.at("x-ratelimit-remaining-tokens") == "99982");
  const auto status = bench.board.get()->rates->status(bench.clock.monotonic_ns());
  CHECK(status[0].requests->remaining == 8);
  CHECK(status[0].tokens->remaining == 100'000);
  CHECK(status[1].requests->remaining == 0);
  CHECK(status[1].tokens->remaining == 99'982);
  // Of the two, one fails and the other is limited: what failed is what is said.
  CHECK(bench.answer_to(false).status == 503);
}

TEST_CASE("a request that no deployment could take gives its tokens back", "[exchange][rates]") {
  GatewayBench bench({.upstreams = 1});
  bench.set_rates({rule("key:*", 5, 100'000)});
  bench.make_open(0);
  const auto answer = bench.answer_to(false);
  CHECK(answer.status == 503);
  CHECK(answer.headers.at("x-ratelimit-remaining-requests") == "4");
  CHECK(answer.headers.at("x-ratelimit-remaining-tokens") == "100000");
  const auto unknown = bench.answer_to(false, "nothing");
  CHECK(unknown.status == 404);
  CHECK(unknown.headers.at("x-ratelimit-remaining-requests") == "3");
  CHECK(unknown.headers.at("x-ratelimit-remaining-tokens") == "100000");
}

}  // namespace exchange_rates_test
