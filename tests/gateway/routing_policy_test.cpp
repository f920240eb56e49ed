#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <map>

#include "gateway/routing_policy.hpp"

namespace routing_policy_test {

using namespace outlast::gateway;
using outlast::AttemptStatus;
using outlast::Random;

namespace {

using Order = std::vector<std::uint32_t>;

// Leaves `candidates` as they are, unlike make_plan().
void plan_into(std::vector<Candidate> candidates, Random& random, Plan& plan) {
  make_plan(candidates, random, plan);
}

Plan plan_of(std::vector<Candidate> candidates, std::uint64_t seed = 7) {
  Random random(seed);
  Plan plan;
  make_plan(candidates, random, plan);
  return plan;
}

}  // namespace

TEST_CASE("lower priorities come first", "[routing]") {
  const auto seed = GENERATE(range(0, 30));
  const Plan plan = plan_of({{.deployment = 0, .priority = 3},
                             {.deployment = 1, .priority = 1},
                             {.deployment = 2, .priority = 2},
                             {.deployment = 3, .priority = 2}},
                            static_cast<std::uint64_t>(seed));
  REQUIRE(plan.deployments.size() == 4);
  CHECK(plan.deployments[0] == 1);
  CHECK(plan.deployments[3] == 0);
  CHECK(plan.deployments[1] + plan.deployments[2] == 5);
}

TEST_CASE("the shares of the first place follow the weights within three sigma", "[routing]") {
  const std::vector<std::uint32_t> weights = {1, 2, 5, 12};
  std::vector<Candidate> candidates;
  double total = 0;
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    candidates.push_back({.deployment = i, .weight = weights[i]});
    total += weights[i];
  }
  constexpr int draws = 60'000;
  Random random(20'261);
  Plan plan;
  std::vector<int> first(weights.size());
  std::map<Order, int> orders;
  for (int i = 0; i < draws; ++i) {
    plan_into(candidates, random, plan);
    REQUIRE(plan.deployments.size() == weights.size());
    ++first[plan.deployments[0]];
    ++orders[{plan.deployments[0], plan.deployments[1]}];
  }
  const auto within_three_sigma = [](int count, double share) {
    return std::abs(count - draws * share) <= 3 * std::sqrt(draws * share * (1 - share));
  };
  for (std::size_t i = 0; i < weights.size(); ++i) {
    INFO("deployment " << i << " was first " << first[i] << " times");
    CHECK(within_three_sigma(first[i], weights[i] / total));
  }
  // The second place is drawn by weight among the rest.
  CHECK(within_three_sigma(orders[{3, 2}], 12 / total * 5 / (total - 12)));
  CHECK(within_three_sigma(orders[{2, 3}], 5 / total * 12 / (total - 5)));
}

TEST_CASE("weight 0 comes after every other deployment of its priority", "[routing]") {
  const auto seed = GENERATE(range(0, 30));
  const Plan plan = plan_of({{.deployment = 0, .weight = 0},
                             {.deployment = 1, .weight = 1},
                             {.deployment = 2, .weight = 9},
                             {.deployment = 3, .priority = 2}},
                            static_cast<std::uint64_t>(seed));
  REQUIRE(plan.deployments.size() == 4);
  CHECK(plan.deployments[2] == 0);
  CHECK(plan.deployments[3] == 3);
}

TEST_CASE("open and saturated deployments are left out", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0, .state = BreakerState::open, .open_until_ns = 900},
                             {.deployment = 1, .saturated = true},
                             {.deployment = 2}});
  CHECK(plan.deployments == Order{2});
  CHECK_FALSE(plan.first_is_probe);
}

TEST_CASE("when every breaker is open the plan is empty and says when the first may be tried", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0, .state = BreakerState::open, .open_until_ns = 900},
                             {.deployment = 1, .state = BreakerState::open, .open_until_ns = 300},
                             {.deployment = 2, .state = BreakerState::open, .open_until_ns = 500}});
  CHECK(plan.deployments.empty());
  CHECK(plan.retry_at_ns == 300);
  CHECK_FALSE(plan.saturated);
}

TEST_CASE("when every deployment is at its limit the plan is empty and says so", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0, .saturated = true}});
  CHECK(plan.deployments.empty());
  CHECK(plan.saturated);
}

TEST_CASE("a half-open deployment with a free probe goes first, whatever its priority", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0, .priority = 1},
                             {.deployment = 1, .priority = 5, .state = BreakerState::half_open, .probe_free = true}});
  CHECK(plan.deployments == Order{1, 0});
  CHECK(plan.first_is_probe);
}

TEST_CASE("a half-open deployment whose probe is under way is left out", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0},
                             {.deployment = 1, .state = BreakerState::half_open, .probe_free = false}});
  CHECK(plan.deployments == Order{0});
  CHECK_FALSE(plan.first_is_probe);
}

TEST_CASE("one request probes one deployment only", "[routing]") {
  const Plan plan = plan_of({{.deployment = 0, .state = BreakerState::half_open, .probe_free = true},
                             {.deployment = 1, .state = BreakerState::half_open, .probe_free = true},
                             {.deployment = 2}});
  CHECK(plan.deployments == Order{0, 2});
  CHECK(plan.first_is_probe);
}

TEST_CASE("a plan is made anew in the same memory", "[routing]") {
  Random random(1);
  Plan plan;
  plan_into({{.deployment = 4, .state = BreakerState::half_open, .probe_free = true}}, random, plan);
  REQUIRE(plan.first_is_probe);
  plan_into({{.deployment = 5, .state = BreakerState::open, .open_until_ns = 1}}, random, plan);
  CHECK(plan.deployments.empty());
  CHECK_FALSE(plan.first_is_probe);
  plan_into({{.deployment = 6}}, random, plan);
  CHECK(plan.deployments == Order{6});
  CHECK_FALSE(plan.retry_at_ns.has_value());
}

TEST_CASE("every plan is a set of usable deployments in the order of priority", "[routing]") {
  const auto seed = GENERATE(range(0, 200));
  Random random(static_cast<std::uint64_t>(seed));
  std::vector<Candidate> candidates;
  const auto count = random.below(12);
  for (std::uint32_t i = 0; i < count; ++i) {
    candidates.push_back({i, static_cast<std::uint32_t>(random.below(3)), static_cast<std::uint32_t>(random.below(4)),
                          static_cast<BreakerState>(random.below(3)), random.below(2) == 0, random.below(4) == 0,
                          static_cast<std::int64_t>(random.below(1'000))});
  }
  Plan plan;
  plan_into(candidates, random, plan);
  std::size_t closed = 0;
  std::size_t probes = 0;
  for (const Candidate& candidate : candidates) {
    closed += !candidate.saturated && candidate.state == BreakerState::closed ? 1 : 0;
    probes += !candidate.saturated && candidate.state == BreakerState::half_open && candidate.probe_free ? 1 : 0;
  }
  CHECK(plan.deployments.size() == closed + std::min<std::size_t>(probes, 1));
  CHECK(plan.first_is_probe == (probes > 0));
  Order sorted = plan.deployments;
  std::sort(sorted.begin(), sorted.end());
  CHECK(std::adjacent_find(sorted.begin(), sorted.end()) == sorted.end());
  for (std::size_t i = plan.first_is_probe ? 1 : 0; i < plan.deployments.size(); ++i) {
    const Candidate& candidate = candidates[plan.deployments[i]];
    CHECK(candidate.state == BreakerState::closed);
    CHECK_FALSE(candidate.saturated);
    if (i + 1 < plan.deployments.size()) {
      CHECK(candidate.priority <= candidates[plan.deployments[i + 1]].priority);
    }
  }
}

TEST_CASE("retries of the same deployment stay below a tenth of the requests", "[routing]") {
  RetryBudget budget;
  int at_start = 0;
  while (budget.spend()) ++at_start;
  CHECK(at_start == 10);
  int retries = 0;
  for (int i = 0; i < 10'000; ++i) {
    budget.earn();
    if (budget.spend()) ++retries;
  }
  CHECK(retries == 1'000);
}

TEST_CASE("the retry budget saves up for at most a hundred retries", "[routing]") {
  RetryBudget budget;
  for (int i = 0; i < 1'000'000; ++i) budget.earn();
  int retries = 0;
  while (budget.spend()) ++retries;
  CHECK(retries == 100);
}

namespace {

constexpr auto give_up = FailoverAction::give_up;
constexpr auto next = FailoverAction::next_deployment;
constexpr auto same = FailoverAction::same_deployment;

constexpr std::string_view unnamed = R"({"error": {"message": "no", "type": "x", "code": null}})";
constexpr std::string_view content_filter =
    R"({"error": {"message": "filtered", "type": "invalid_request_error", "code": "content_filter"}})";
constexpr std::string_view too_long =
    R"({"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}})";
constexpr std::string_view no_quota =
    R"({"error": {"message": "quota", "type": "insufficient_quota", "code": "insufficient_quota"}})";
constexpr std::string_view spend_limit =
    R"({"type": "error", "error": {"type": "rate_limit_error", "message": "limit", "error_code": "enforced_spend_limit_reached"}})";
constexpr std::string_view no_model =
    R"({"error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}})";
constexpr std::string_view anthropic_overloaded =
    R"({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})";
constexpr std::string_view anthropic_throttled =
    R"({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}})";

// A row of "What to do with an upstream error": an answer and what follows from it.
struct Row {
  const char* what;
  Dialect dialect;
  unsigned http_status;
  std::string_view body;
  std::string_view retry_after;
  AttemptStatus status;
  FailoverAction with_others;  // the plan has a deployment that was not tried
  FailoverAction alone;        // it has none
  FailoverAction again;        // it has none, and the same deployment was asked a second time
};

constexpr auto openai = Dialect::openai;
constexpr auto anthropic = Dialect::anthropic;
constexpr auto refused = AttemptStatus::refused;
constexpr auto credential = AttemptStatus::credential;
constexpr auto throttled = AttemptStatus::throttled;
constexpr auto overloaded = AttemptStatus::overloaded;
constexpr auto model_gone = AttemptStatus::model_gone;

const Row error_table[] = {
    {"caller's fault: 400", openai, 400, unnamed, "", refused, give_up, give_up, give_up},
    {"caller's fault: 413", openai, 413, unnamed, "", refused, give_up, give_up, give_up},
    {"caller's fault: 422", openai, 422, unnamed, "", refused, give_up, give_up, give_up},
    {"caller's fault: content filter", openai, 400, content_filter, "", refused, give_up, give_up, give_up},
    {"caller's fault: context too long", openai, 400, too_long, "", refused, give_up, give_up, give_up},
    {"credential: 401", openai, 401, unnamed, "", credential, next, give_up, give_up},
    {"credential: 402", anthropic, 402, "", "", credential, next, give_up, give_up},
    {"credential: 403", openai, 403, unnamed, "", credential, next, give_up, give_up},
    {"credential: insufficient quota", openai, 429, no_quota, "5", credential, next, give_up, give_up},
    {"credential: enforced spend limit", anthropic, 429, spend_limit, "", credential, next, give_up, give_up},
    {"throttled: a short wait", openai, 429, unnamed, "2", throttled, next, same, give_up},
    {"throttled: the longest wait", openai, 429, unnamed, "10", throttled, next, same, give_up},
    {"throttled: too long a wait", openai, 429, unnamed, "11", throttled, next, give_up, give_up},
    {"throttled: no word of a wait", openai, 429, unnamed, "", throttled, next, give_up, give_up},
    {"throttled: anthropic", anthropic, 429, anthropic_throttled, "1", throttled, next, same, give_up},
    {"overload: 500", openai, 500, unnamed, "", overloaded, next, same, give_up},
    {"overload: 502, not JSON", openai, 502, "<html>bad gateway</html>", "", overloaded, next, same, give_up},
    {"overload: 503", openai, 503, "", "", overloaded, next, same, give_up},
    {"overload: 504", openai, 504, "", "", overloaded, next, same, give_up},
    {"overload: 529", anthropic, 529, anthropic_overloaded, "", overloaded, next, same, give_up},
    {"overload: 424", openai, 424, unnamed, "", overloaded, next, same, give_up},
    {"conflict: 409", openai, 409, unnamed, "", overloaded, same, same, give_up},
    {"time-out: 408", openai, 408, unnamed, "", overloaded, same, same, give_up},
    {"model gone: 404", openai, 404, no_model, "", model_gone, next, give_up, give_up},
    {"model gone: 410", openai, 410, unnamed, "", model_gone, next, give_up, give_up},
    {"model gone: a wrong address", openai, 404, "not found", "", model_gone, next, give_up, give_up},
};

UpstreamFailure failure_of(const Row& row, std::string_view should_retry = "") {
  return read_failure(row.dialect, row.http_status, row.body, row.retry_after, "", should_retry, 0);
}

FailoverState state_with(bool more_deployments, bool same_retried = false) {
  return {.attempts_made = 1, .more_deployments = more_deployments, .same_retried = same_retried, .deadline_left_ms = 60'000};
}

FailoverAction action_after(const UpstreamFailure& failure, const FailoverState& state) {
  RetryBudget budget;
  Random random(3);
  return after_failure(failure, state, budget, random).action;
}

}  // namespace

TEST_CASE("every row of the error table leads to its step", "[routing]") {
  for (const Row& row : error_table) {
    INFO(row.what);
    const UpstreamFailure failure = failure_of(row);
    CHECK(failure.status == row.status);
    CHECK(action_after(failure, state_with(true)) == row.with_others);
    CHECK(action_after(failure, state_with(false)) == row.alone);
    CHECK(action_after(failure, state_with(false, true)) == row.again);
  }
}

TEST_CASE("a conflict is tried once more on the same deployment, and then on the next", "[routing]") {
  const UpstreamFailure conflict = read_failure(openai, 409, "", "", "", "", 0);
  CHECK(action_after(conflict, state_with(true)) == same);
  CHECK(action_after(conflict, state_with(true, true)) == next);
}

TEST_CASE("a provider that forbids a retry is not asked again", "[routing]") {
  for (const Row& row : error_table) {
    INFO(row.what);
    const UpstreamFailure failure = failure_of(row, "false");
    CHECK(action_after(failure, state_with(false)) == give_up);
    CHECK(action_after(failure, state_with(true)) == (row.status == refused ? give_up : next));
  }
}

TEST_CASE("nothing is tried after the last attempt or the deadline", "[routing]") {
  for (const Row& row : error_table) {
    INFO(row.what);
    FailoverState exhausted = state_with(true);
    exhausted.attempts_made = exhausted.attempts_max;
    CHECK(action_after(failure_of(row), exhausted) == give_up);
    FailoverState late = state_with(true);
    late.deadline_left_ms = 0;
    CHECK(action_after(failure_of(row), late) == give_up);
  }
}

TEST_CASE("a retry that would end beyond the deadline is not made and costs nothing", "[routing]") {
  FailoverState state = state_with(false);
  state.deadline_left_ms = 3'000;
  RetryBudget budget;
  Random random(1);
  const UpstreamFailure wait_for_5_s = read_failure(openai, 429, "", "5", "", "", 0);
  for (int i = 0; i < 50; ++i) CHECK(after_failure(wait_for_5_s, state, budget, random).action == give_up);
  CHECK(budget.spend());
}

TEST_CASE("without retry budget only other deployments are tried", "[routing]") {
  RetryBudget budget;
  while (budget.spend()) {}
  Random random(1);
  const UpstreamFailure overload = read_failure(openai, 503, "", "", "", "", 0);
  CHECK(after_failure(overload, state_with(false), budget, random).action == give_up);
  CHECK(after_failure(overload, state_with(true), budget, random).action == next);
  const UpstreamFailure conflict = read_failure(openai, 409, "", "", "", "", 0);
  CHECK(after_failure(conflict, state_with(true), budget, random).action == next);
}

TEST_CASE("a retry waits for a jitter within its bounds, after the provider's own wait", "[routing]") {
  Random random(5);
  std::uint32_t least = 1'000'000;
  std::uint32_t most = 0;
  for (int i = 0; i < 2'000; ++i) {
    RetryBudget budget;
    const auto overload = after_failure(read_failure(openai, 500, "", "", "", "", 0), state_with(false), budget, random);
    least = std::min(least, overload.wait_ms);
    most = std::max(most, overload.wait_ms);
    const auto wait = after_failure(read_failure(openai, 429, "", "", "700", "", 0), state_with(false), budget, random);
    CHECK(wait.wait_ms >= 700 + retry_jitter_ms_min);
    CHECK(wait.wait_ms <= 700 + retry_jitter_ms_max);
  }
  CHECK(least == retry_jitter_ms_min);
  CHECK(most == retry_jitter_ms_max);
  RetryBudget budget;
  CHECK(after_failure(read_failure(openai, 500, "", "", "", "", 0), state_with(true), budget, random).wait_ms == 0);
}

TEST_CASE("what burns a commitment goes before lower priorities, and by weight among its like", "[routing]") {
  Random random(5);
  std::vector<Candidate> candidates = {{.deployment = 0, .priority = 1},
                                       {.deployment = 1, .priority = 2, .burns = true},
                                       {.deployment = 2, .priority = 3, .burns = true},
                                       {.deployment = 3, .priority = 1}};
  Plan plan;
  plan_into(candidates, random, plan);
  REQUIRE(plan.deployments.size() == 4);
  CHECK(plan.deployments[0] == 1);
  CHECK(plan.deployments[1] == 2);
  candidates[1].state = BreakerState::open;
  plan_into(candidates, random, plan);
  CHECK(plan.deployments[0] == 2);
}

}  // namespace routing_policy_test
