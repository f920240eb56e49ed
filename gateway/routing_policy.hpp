// Routing: which deployments to try, in order, and what to do after a failure (docs/routing.md has the table).
// Pure: health, load, time and randomness are arguments.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/random.hpp"
#include "gateway/breaker.hpp"
#include "gateway/dialect.hpp"

namespace outlast::gateway {

// What is known of one deployment of a route at the moment of planning.
struct Candidate {
  std::uint32_t deployment = 0;  // index into the routing table
  std::uint32_t priority = 1;
  std::uint32_t weight = 1;
  BreakerState state = BreakerState::closed;
  bool probe_free = false;       // with half_open: no probe is under way
  bool saturated = false;        // max_concurrency is reached
  std::int64_t open_until_ns = 0;
  bool burns = false;            // has a commitment to use up, and the route says to prefer that
};

struct Plan {
  std::vector<std::uint32_t> deployments;          // in the order to try; empty: none can be tried now
  bool first_is_probe = false;                     // the first is half-open: take its probe, or skip it
  bool saturated = false;                          // empty because of max_concurrency
  std::optional<std::int64_t> retry_at_ns;         // empty because breakers are open: when the first one may be tried
};

// What burns a commitment goes before the rest. Then lower priorities first; within one, a weighted random order without replacement. Open and saturated deployments
// are left out. A half-open deployment with a free probe goes first: hold-back makes the probe safe for the caller.
void make_plan(std::span<const Candidate> candidates, Random& random, Plan& plan);

// Retries of the same deployment: each request earns a tenth of a retry, up to a limit. One per lane.
class RetryBudget {
 public:
  static constexpr std::uint32_t earned_per_request = 1;
  static constexpr std::uint32_t cost = 10;
  static constexpr std::uint32_t balance_max = 100 * cost;

  void earn() { balance_ = balance_ + earned_per_request > balance_max ? balance_max : balance_ + earned_per_request; }
  bool spend() {
    if (balance_ < cost) return false;
    balance_ -= cost;
    return true;
  }

 private:
  std::uint32_t balance_ = 10 * cost;
};

enum class FailoverAction : std::uint8_t { give_up = 0, next_deployment = 1, same_deployment = 2 };

struct FailoverStep {
  FailoverAction action = FailoverAction::give_up;
  std::uint32_t wait_ms = 0;  // before the same deployment is asked again
};

struct FailoverState {
  std::uint32_t attempts_made = 0;       // this failure included
  std::uint32_t attempts_max = 4;
  bool more_deployments = false;         // the plan has one that was not tried
  bool same_retried = false;             // this deployment was asked a second time already
  std::int64_t deadline_left_ms = 0;
};

inline constexpr std::uint32_t retry_jitter_ms_min = 20;
inline constexpr std::uint32_t retry_jitter_ms_max = 120;
inline constexpr std::uint32_t retry_after_wait_ms_max = 10'000;  // a longer Retry-After goes to the caller

// What to do after a failure before the first content.
FailoverStep after_failure(const UpstreamFailure& failure, const FailoverState& state, RetryBudget& budget,
                           Random& random);

}  // namespace outlast::gateway
