#include "gateway/breaker.hpp"

#include <algorithm>

namespace outlast::gateway {

void Breaker::record(const Outcome& outcome, std::int64_t now_ns) {
  const std::uint32_t failures = outcome.failures + outcome.credential_failures;
  count(outcome.successes + failures, failures, now_ns);
  // Lanes report a failure at once, so within a batch the successes came before it.
  if (outcome.successes > 0) consecutive_failures_ = 0;
  consecutive_failures_ += failures;
  if (outcome.credential_failures > 0) {
    open_for(policy_.credential_open_ms, now_ns);
    return;
  }
  if (outcome.throttled_ms) {
    // The provider said when: that is no failure of health, so the next wait does not grow.
    open_ = true;
    open_until_ns_ = std::max(open_until_ns_, now_ns + static_cast<std::int64_t>(*outcome.throttled_ms) * 1'000'000);
    return;
  }
  if (open_) {
    if (!outcome.probe) return;  // late news of requests that were under way when it opened
    if (outcome.probe_neutral) return;
    if (outcome.successes > 0) {
      open_ = false;
      openings_ = 0;
      window_ = {};
    } else if (failures > 0) {
      const auto doubled = static_cast<std::uint64_t>(policy_.open_ms) << std::min(openings_, 16U);
      open_for(std::min<std::uint64_t>(doubled, policy_.open_ms_max), now_ns);
    }
    return;
  }
  if (failures > 0 && (consecutive_failures_ >= policy_.consecutive_failures || window_failing(now_ns))) {
    open_for(policy_.open_ms, now_ns);
  }
}

BreakerState Breaker::state(std::int64_t now_ns) const {
  if (!open_) return BreakerState::closed;
  return now_ns < open_until_ns_ ? BreakerState::open : BreakerState::half_open;
}

void Breaker::open_for(std::uint64_t duration_ms, std::int64_t now_ns) {
  open_ = true;
  ++openings_;
  // Up to a tenth longer, so that many nodes do not probe at the same moment.
  const std::uint64_t jittered_us = duration_ms * 1000 + random_.below(duration_ms * 100 + 1);
  open_until_ns_ = now_ns + static_cast<std::int64_t>(jittered_us) * 1000;
}

void Breaker::count(std::uint32_t requests, std::uint32_t failures, std::int64_t now_ns) {
  const std::int64_t number = now_ns / (static_cast<std::int64_t>(policy_.window_ms) * 1'000'000 / slots);
  Slot& slot = window_[static_cast<std::size_t>(number) % slots];
  if (slot.number != number) slot = Slot{number, 0, 0};
  slot.requests += requests;
  slot.failures += failures;
}

bool Breaker::window_failing(std::int64_t now_ns) const {
  const std::int64_t number = now_ns / (static_cast<std::int64_t>(policy_.window_ms) * 1'000'000 / slots);
  std::uint64_t requests = 0;
  std::uint64_t failures = 0;
  for (const Slot& slot : window_) {
    if (slot.number <= number - static_cast<std::int64_t>(slots)) continue;
    requests += slot.requests;
    failures += slot.failures;
  }
  return requests >= policy_.window_requests_min && failures * 100 >= requests * policy_.window_failures_percent;
}

}  // namespace outlast::gateway
