#include "gateway/rate_limit.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/clock.hpp"
#include "gateway/rate_headers.hpp"

namespace rate_limit_test {

using namespace outlast;
using namespace outlast::gateway;
using Catch::Contains;

namespace {

constexpr std::int64_t second_ns = 1'000'000'000;
constexpr std::uint64_t no_tokens = 0;

const TenantPath ann{"acme", "search", "ann"};
const TenantPath bob{"acme", "search", "bob"};
const TenantPath eve{"acme", "ads", "eve"};

RateLimitRule rule(const std::string& scope, RateBound requests, RateBound tokens = {}) {
  auto parsed = RateScope::parse(scope);
  REQUIRE(parsed);
  return {*parsed, requests, tokens};
}

// A limiter under virtual time.
struct LimiterBench {
  explicit LimiterBench(const std::vector<RateLimitRule>& rules)
      : limiter(RateLimiter::make(rules, nullptr)) {}

  std::optional<RateRefusal> ask(const TenantPath& tenant, const std::string& key = "key_1",
                                 std::uint64_t tokens = no_tokens) {
    RateTicket ticket;
    return limiter->admit(tenant, key, tokens, clock.monotonic_ns(), ticket);
  }
  std::uint64_t ask_until_refused(const TenantPath& tenant, const std::string& key = "key_1") {
    std::uint64_t admitted = 0;
    while (!ask(tenant, key)) ++admitted;
    return admitted;
  }
  [[nodiscard]] RateStanding standing_of(const TenantPath& tenant,
                                         const std::string& key = "key_1") {
    RateTicket ticket;
    static_cast<void>(limiter->admit(tenant, key, no_tokens, clock.monotonic_ns(), ticket));
    limiter->cancel(ticket, clock.monotonic_ns());
    return limiter->standing(ticket, clock.monotonic_ns());
  }

  ManualClock clock;
  std::shared_ptr<const RateLimiter> limiter;
};

}  // namespace

TEST_CASE("each level of the path has its own limit", "[rates]") {
  LimiterBench bench({rule("organisation:acme", {60, 9}), rule("team:acme/search", {60, 5}),
               rule("user:acme/search/ann", {60, 3}), rule("key:key_1", {60, 2})});
  CHECK(bench.ask_until_refused(ann, "key_1") == 2);
  CHECK(bench.ask_until_refused(ann, "key_2") == 1);
  CHECK(bench.ask_until_refused(bob, "key_3") == 2);
  CHECK(bench.ask_until_refused(eve, "key_4") == 4);
  CHECK(bench.ask({"other", "search", "ann"}, "key_5") == std::nullopt);
}

TEST_CASE("all limits or none: a refusal takes nothing from the others and names the longest wait",
          "[rates]") {
  LimiterBench bench({rule("organisation:acme", {60, 100}), rule("team:acme/search", {6, 3}, {600, 600}),
               rule("key:key_1", {60, 3})});
  REQUIRE(bench.ask_until_refused(ann) == 3);
  const auto refusal = bench.ask(ann);
  REQUIRE(refusal);
  CHECK(refusal->scope.to_string() == "team:acme/search");
  CHECK_FALSE(refusal->of_tokens);
  CHECK(refusal->wait_ns == 10 * second_ns);
  CHECK(refusal->message() ==
        "Rate limit reached for team:acme/search on requests per minute (RPM): Limit 6 (at once "
        "3), Used 3, Requested 1. "
        "Please try again in 10s.");
  for (int i = 0; i < 50; ++i) CHECK(bench.ask(ann));
  CHECK(bench.ask_until_refused(eve, "key_9") == 97);
  bench.clock.advance_ms(10'000);
  CHECK_FALSE(bench.ask(ann));
}

TEST_CASE("tokens are taken as the worst case and given back at the end", "[rates]") {
  LimiterBench bench({rule("team:acme/search", {}, {10'000, 10'000})});
  RateTicket ticket;
  REQUIRE_FALSE(bench.limiter->admit(ann, "key_1", 8'000, bench.clock.monotonic_ns(), ticket));
  const auto refusal = bench.ask(bob, "key_2", 3'000);
  REQUIRE(refusal);
  CHECK(refusal->of_tokens);
  CHECK(refusal->remaining == 2'000);
  CHECK(refusal->wait_ns == 6 * second_ns);
  CHECK_THAT(refusal->message(),
             Contains("on tokens per minute (TPM): Limit 10000, Used 8000, Requested 3000."));
  bench.limiter->settle(ticket, 500, bench.clock.monotonic_ns());
  bench.limiter->settle(ticket, 0, bench.clock.monotonic_ns());  // once is enough
  CHECK(bench.limiter->standing(ticket, bench.clock.monotonic_ns()).tokens->remaining == 9'500);
  CHECK_FALSE(bench.ask(bob, "key_2", 9'500));
}

TEST_CASE("a request beyond the burst passes alone and is charged what it used", "[rates]") {
  LimiterBench bench({rule("key:*", {}, {6'000, 6'000})});
  RateTicket ticket;
  REQUIRE_FALSE(bench.limiter->admit(ann, "key_1", 1'000'000, bench.clock.monotonic_ns(), ticket));
  CHECK(bench.ask(ann, "key_1", 1));
  bench.limiter->settle(ticket, 12'000, bench.clock.monotonic_ns());
  const auto refusal = bench.ask(ann, "key_1", 100);
  REQUIRE(refusal);
  CHECK(refusal->wait_ns == 61 * second_ns);
  CHECK_FALSE(bench.ask(ann, "key_2", 100));
}

TEST_CASE("a cancelled ticket leaves nothing behind", "[rates]") {
  LimiterBench bench({rule("key:*", {60, 2}, {1'000, 1'000}), rule("team:*", {60, 3}, {1'000, 1'000})});
  RateTicket ticket;
  REQUIRE_FALSE(bench.limiter->admit(ann, "key_1", 700, bench.clock.monotonic_ns(), ticket));
  bench.limiter->cancel(ticket, bench.clock.monotonic_ns());
  const RateStanding standing = bench.standing_of(ann);
  CHECK(standing.requests->remaining == 2);
  CHECK(standing.tokens->remaining == 1'000);
}

TEST_CASE("a default holds for each one by itself, and a limit of its own stands in its place",
          "[rates]") {
  LimiterBench bench({rule("key:*", {60, 2}), rule("key:key_rich", {60, 7}), rule("team:*", {60, 10})});
  CHECK(bench.ask_until_refused(ann, "key_1") == 2);
  CHECK(bench.ask_until_refused(ann, "key_2") == 2);
  CHECK(bench.ask_until_refused(ann, "key_rich") == 6);  // the team's ten
  CHECK(bench.ask_until_refused(eve, "key_rich") == 1);
  const auto refusal = bench.ask(eve, "key_1");
  REQUIRE(refusal);
  CHECK(refusal->scope.to_string() == "key:key_1");
  const auto status = bench.limiter->status(bench.clock.monotonic_ns());
  REQUIRE(status.size() == 3);
  CHECK(status[0].live == 2);
  CHECK_FALSE(status[0].requests);
  CHECK(status[1].requests->remaining == 0);
  CHECK(status[2].live == 2);
  bench.clock.advance_ms(3'600'000);
  CHECK(bench.limiter->status(bench.clock.monotonic_ns())[0].live == 0);
}

TEST_CASE("deployments are limited apart from keys", "[rates]") {
  LimiterBench bench({rule("deployment:fable", {60, 1}), rule("deployment:*", {60, 2})});
  CHECK_FALSE(bench.ask(ann));
  RateTicket first;
  REQUIRE_FALSE(bench.limiter->check_deployment("fable", 0, bench.clock.monotonic_ns()));
  REQUIRE_FALSE(bench.limiter->admit_deployment("fable", 0, bench.clock.monotonic_ns(), first));
  CHECK(bench.limiter->check_deployment("fable", 0, bench.clock.monotonic_ns())->wait_ns ==
        second_ns);
  CHECK_FALSE(bench.limiter->check_deployment("opus", 0, bench.clock.monotonic_ns()));
  for (int i = 0; i < 2; ++i) {
    RateTicket ticket;
    CHECK_FALSE(bench.limiter->admit_deployment("opus", 0, bench.clock.monotonic_ns(), ticket));
  }
  CHECK(bench.limiter->check_deployment("opus", 0, bench.clock.monotonic_ns()));
}

TEST_CASE("the standing is that of the tightest limit", "[rates]") {
  LimiterBench bench({rule("organisation:acme", {60, 60}, {1'000, 1'000}), rule("key:key_1", {120, 5})});
  REQUIRE_FALSE(bench.ask(ann));
  const RateStanding standing = bench.standing_of(ann);
  CHECK(standing.requests->limit == 5);
  CHECK(standing.requests->remaining == 4);
  CHECK(standing.requests->reset_ns == second_ns / 2);
  CHECK(standing.tokens->limit == 1'000);
  CHECK_FALSE(bench.standing_of({"other", "x", "y"}, "key_2").requests);
}

TEST_CASE("the wall clock set back or forward changes nothing", "[rates]") {
  LimiterBench bench({rule("key:*", {60, 2})});
  REQUIRE(bench.ask_until_refused(ann) == 2);
  bench.clock.set_wall_ms(bench.clock.wall_ms() - 86'400'000);
  CHECK(bench.ask(ann)->wait_ns == second_ns);
  bench.clock.set_wall_ms(bench.clock.wall_ms() + 10 * 86'400'000LL);
  CHECK(bench.ask(ann)->wait_ns == second_ns);
}

TEST_CASE("a reload keeps what was taken from limits that did not change", "[rates]") {
  LimiterBench bench({rule("team:acme/search", {60, 2}), rule("key:*", {60, 3}), rule("user:*", {60, 4})});
  REQUIRE(bench.ask_until_refused(ann) == 2);
  RateTicket under_way;
  const auto before = bench.limiter;
  REQUIRE_FALSE(before->admit(eve, "key_1", 0, bench.clock.monotonic_ns(), under_way));
  bench.limiter = RateLimiter::make(
      {rule("key:*", {60, 3}), rule("team:acme/search", {60, 5}), rule("key:key_2", {60, 1})},
      before.get());
  CHECK(bench.ask(ann)->scope.to_string() == "key:key_1");  // the same limit, three are taken
  CHECK(bench.ask_until_refused(ann, "key_7") == 3);  // the team's has changed, so it starts anew
  CHECK(bench.ask_until_refused(ann, "key_2") == 1);
  before->cancel(under_way, bench.clock.monotonic_ns());
  CHECK_FALSE(bench.ask(eve, "key_1"));
  CHECK(RateLimiter::make({}, bench.limiter.get()) == nullptr);
}

TEST_CASE(
    "a hundred thousand keys stay below 20 MB, and keys that have passed make room for new ones",
    "[rates]") {
  STATIC_REQUIRE(RateStateTable::bytes() < 20'000'000);
  LimiterBench bench({rule("key:*", {60, 1})});
  for (int round = 0; round < 5; ++round) {
    std::size_t wrong = 0;
    for (int i = 0; i < 100'000; ++i) {
      const std::string key = "key_" + std::to_string(round) + "_" + std::to_string(i);
      if (bench.ask(ann, key)) ++wrong;
      if (!bench.ask(ann, key)) ++wrong;
    }
    CHECK(wrong == 0);
    CHECK(bench.limiter->status(bench.clock.monotonic_ns())[0].live == 100'000);
    bench.clock.advance_ms(2'000);
  }
}

TEST_CASE("where there is no place for one more key it is told to wait", "[rates]") {
  LimiterBench bench({rule("key:*", {60, 1})});
  std::size_t admitted = 0;
  std::size_t no_place = 0;
  for (int i = 0; i < 300'000; ++i) {
    const auto refusal = bench.ask(ann, "key_" + std::to_string(i));
    if (!refusal)
      ++admitted;
    else if (refusal->wait_ns == second_ns)
      ++no_place;
  }
  CHECK(admitted + no_place == 300'000);
  CHECK(admitted <= RateStateTable::slots);
  CHECK(admitted > RateStateTable::slots * 9 / 10);
}

TEST_CASE("threads that share keys admit each exactly once, also while places change hands",
          "[rates]") {
  const auto limiter = RateLimiter::make({rule("key:*", {60, 1})}, nullptr);
  constexpr int keys = 60'000;
  for (int round = 0; round < 6; ++round) {
    std::atomic<int> admitted{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&limiter, &admitted, round] {
        const std::int64_t now_ns = (round + 1) * 2 * second_ns;
        for (int i = 0; i < keys; ++i) {
          RateTicket ticket;
          const std::string key = "key_" + std::to_string(round) + "_" + std::to_string(i);
          if (!limiter->admit(ann, key, 0, now_ns, ticket)) admitted.fetch_add(1);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(admitted.load() == keys);
  }
}

TEST_CASE("threads with several limits take all or nothing", "[rates]") {
  const auto limiter =
      RateLimiter::make({rule("organisation:acme", {60, 5'000}),
                         rule("team:acme/search", {60, 3'000}, {6'000'000, 600'000})},
                        nullptr);
  std::atomic<int> admitted{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&limiter, &admitted] {
      for (int i = 0; i < 2'000; ++i) {
        RateTicket ticket;
        if (!limiter->admit(ann, "key_1", 400, second_ns, ticket)) admitted.fetch_add(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(admitted.load() == 1'500);  // by the tokens
  const auto status = limiter->status(second_ns);
  CHECK(status[0].requests->remaining == 3'500);
  CHECK(status[1].requests->remaining == 1'500);
  CHECK(status[1].tokens->remaining == 0);
}

TEST_CASE("durations are written as OpenAI writes them, and waits are rounded up", "[rates]") {
  CHECK(duration_text(0) == "0s");
  CHECK(duration_text(1) == "1ms");
  CHECK(duration_text(12'000'000) == "12ms");
  CHECK(duration_text(second_ns) == "1s");
  CHECK(duration_text(1'200'000'000) == "1.2s");
  CHECK(duration_text(6'054'000'000) == "6.054s");
  CHECK(duration_text(60 * second_ns) == "1m0s");
  CHECK(duration_text(360 * second_ns) == "6m0s");
  CHECK(duration_text(3600 * second_ns + 1'500'000'000) == "1h0m1.5s");
  CHECK(retry_after_s(1) == 1);
  CHECK(retry_after_s(second_ns) == 1);
  CHECK(retry_after_s(second_ns + 1) == 2);
  CHECK(retry_after_ms(1) == 1);
  CHECK(retry_after_ms(second_ns + 1) == 1'001);
}

TEST_CASE("scopes of rate limits say what would be right", "[rates]") {
  CHECK(RateScope::parse("team:acme/search")->to_string() == "team:acme/search");
  CHECK(RateScope::parse("key:*")->each());
  CHECK(RateScope::parse("deployment:fable-alpha"));
  for (const char* wrong : {"acme", "tag:x", "model:m", "provider:p", "keys:*", ""}) {
    CHECK_THAT(RateScope::parse(wrong).error().message,
               Contains("KIND is one of organisation, team, user, key, deployment"));
  }
  CHECK_THAT(RateScope::parse("team:acme").error().message,
             Contains("write team:ORGANISATION/TEAM"));
  CHECK_FALSE(RateScope::parse("deployment:"));
  CHECK_FALSE(RateScope::parse("team:acme/*"));
}

}  // namespace rate_limit_test
