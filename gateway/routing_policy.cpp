#include "gateway/routing_policy.hpp"

#include <algorithm>

namespace outlast::gateway {
namespace {

// Weighted order without replacement over candidates of equal priority, by repeated drawing. Weight 0 comes last.
void order_by_weight(std::span<Candidate> group, Random& random) {
  for (; group.size() > 1; group = group.subspan(1)) {
    std::uint64_t total = 0;
    for (const Candidate& candidate : group) total += candidate.weight;
    if (total == 0) return;
    std::size_t chosen = 0;
    std::uint64_t point = random.below(total);
    while (point >= group[chosen].weight) point -= group[chosen++].weight;
    std::rotate(group.begin(), group.begin() + static_cast<std::ptrdiff_t>(chosen),
                group.begin() + static_cast<std::ptrdiff_t>(chosen) + 1);
  }
}

}  // namespace

void make_plan(std::span<Candidate> candidates, Random& random, Plan& plan) {
  plan.deployments.clear();
  plan.deployments.reserve(candidates.size());
  plan.first_is_probe = plan.saturated = false;
  plan.retry_at_ns.reset();
  std::size_t usable = 0;  // these come first in `candidates`
  for (const Candidate& candidate : candidates) {
    if (candidate.state == BreakerState::open) {
      plan.retry_at_ns = std::min(plan.retry_at_ns.value_or(candidate.open_until_ns), candidate.open_until_ns);
    } else if (candidate.saturated) {
      plan.saturated = true;
    } else if (candidate.state == BreakerState::closed) {
      candidates[usable++] = candidate;
    } else if (candidate.probe_free && !plan.first_is_probe) {
      plan.first_is_probe = true;
      plan.deployments.push_back(candidate.deployment);
    } else {
      plan.retry_at_ns = std::min(plan.retry_at_ns.value_or(candidate.open_until_ns), candidate.open_until_ns);
    }
  }
  candidates = candidates.first(usable);
  const auto goes_first = [](const Candidate& a, const Candidate& b) {
    return a.burns != b.burns ? a.burns : a.priority < b.priority;
  };
  if (!std::is_sorted(candidates.begin(), candidates.end(), goes_first)) {
    std::stable_sort(candidates.begin(), candidates.end(), goes_first);
  }
  for (auto group = candidates; !group.empty();) {
    const auto end = std::find_if(group.begin(), group.end(), [&goes_first, &first = group.front()](const Candidate& other) {
      return goes_first(first, other);
    });
    const auto size = static_cast<std::size_t>(end - group.begin());
    order_by_weight(group.first(size), random);
    group = group.subspan(size);
  }
  for (const Candidate& candidate : candidates) plan.deployments.push_back(candidate.deployment);
}

FailoverStep after_failure(const UpstreamFailure& failure, const FailoverState& state, RetryBudget& budget,
                           Random& random) {
  constexpr FailoverStep give_up{FailoverAction::give_up, 0};
  constexpr FailoverStep next{FailoverAction::next_deployment, 0};
  const bool conflict = failure.http_status == 408 || failure.http_status == 409;
  if (failure.status == AttemptStatus::refused && !conflict) return give_up;
  if (state.attempts_made >= state.attempts_max || state.deadline_left_ms <= 0) return give_up;
  const auto jitter_ms = static_cast<std::uint32_t>(retry_jitter_ms_min +
                                                    random.below(retry_jitter_ms_max - retry_jitter_ms_min + 1));
  const auto same = [&](std::uint32_t wait_ms) {
    const bool wise = failure.retry_same && !state.same_retried && wait_ms < state.deadline_left_ms;
    return wise && budget.spend() ? FailoverStep{FailoverAction::same_deployment, wait_ms}
                                                         : give_up;
  };
  if (conflict) {
    const FailoverStep step = same(jitter_ms);
    return step.action != FailoverAction::give_up ? step : state.more_deployments ? next : give_up;
  }
  if (state.more_deployments) return next;
  switch (failure.status) {
    case AttemptStatus::throttled:
      // Without a word from the provider the caller waits better than we do.
      if (!failure.retry_after_ms || *failure.retry_after_ms > retry_after_wait_ms_max) return give_up;
      return same(*failure.retry_after_ms + jitter_ms);
    case AttemptStatus::overloaded: return same(jitter_ms);
    default: return give_up;
  }
}

}  // namespace outlast::gateway
