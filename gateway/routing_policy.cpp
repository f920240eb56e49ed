#include "gateway/routing_policy.hpp"

#include <algorithm>

namespace outlast::gateway {
namespace {

// Weighted order without replacement over equal priorities, by repeated drawing. Weight 0 comes last.
void order_by_weight(std::vector<Candidate>& group, Random& random, std::vector<std::uint32_t>& out) {
  while (!group.empty()) {
    std::uint64_t total = 0;
    for (const Candidate& candidate : group) total += candidate.weight;
    std::size_t chosen = 0;
    if (total > 0) {
      std::uint64_t point = random.below(total);
      while (point >= group[chosen].weight) point -= group[chosen++].weight;
    }
    out.push_back(group[chosen].deployment);
    group.erase(group.begin() + static_cast<std::ptrdiff_t>(chosen));
  }
}

}  // namespace

void make_plan(std::span<const Candidate> candidates, Random& random, Plan& plan) {
  plan.deployments.clear();
  plan.first_is_probe = plan.saturated = false;
  plan.retry_at_ns.reset();
  std::vector<Candidate> usable;
  usable.reserve(candidates.size());
  for (const Candidate& candidate : candidates) {
    if (candidate.state == BreakerState::open) {
      plan.retry_at_ns = std::min(plan.retry_at_ns.value_or(candidate.open_until_ns), candidate.open_until_ns);
    } else if (candidate.saturated) {
      plan.saturated = true;
    } else if (candidate.state == BreakerState::closed) {
      usable.push_back(candidate);
    } else if (candidate.probe_free && !plan.first_is_probe) {
      plan.first_is_probe = true;
      plan.deployments.push_back(candidate.deployment);
    } else {
      plan.retry_at_ns = std::min(plan.retry_at_ns.value_or(candidate.open_until_ns), candidate.open_until_ns);
    }
  }
  std::stable_sort(usable.begin(), usable.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return a.burns != b.burns ? a.burns : a.priority < b.priority;
                   });
  std::vector<Candidate> group;
  for (std::size_t i = 0; i < usable.size();) {
    group.clear();
    const std::uint32_t priority = usable[i].priority;
    const bool burns = usable[i].burns;
    while (i < usable.size() && usable[i].priority == priority && usable[i].burns == burns) group.push_back(usable[i++]);
    order_by_weight(group, random, plan.deployments);
  }
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
