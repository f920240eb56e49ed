// ExchangeRates: the rate limits of one exchange: what it took from those of its key and of the
// deployment that it asks, and that both get back what was not used, however the exchange ends. On
// the lane.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "core/clock.hpp"
#include "core/usage.hpp"
#include "core/virtual_key.hpp"
#include "gateway/exchange_metering.hpp"
#include "gateway/lane_metrics.hpp"
#include "gateway/rate_limit.hpp"

namespace outlast::gateway {

// The most tokens that a request can use, for its limits: the same bound that is reserved for.
std::uint64_t worst_case_tokens(const ChatHead& head, std::uint64_t input_bytes,
                                const ServingPolicy& serving);

class ExchangeRates {
 public:
  // `limiter` (null: no limits) outlives it, as do the others.
  ExchangeRates(const RateLimiter* limiter, const Clock& clock, LaneMetrics& metrics)
      : limiter_(limiter), clock_(clock), metrics_(metrics) {}
  ~ExchangeRates() { end(); }
  ExchangeRates(const ExchangeRates&) = delete;
  ExchangeRates& operator=(const ExchangeRates&) = delete;

  // Takes from the limits of the key and its tenant. `tokens` is the worst case, of every attempt
  // too.
  std::optional<RateRefusal> admit(const VirtualKey& key, std::uint64_t tokens);

  // Whether the deployment is at a limit; takes nothing.
  [[nodiscard]] bool limited(std::string_view deployment);
  // Takes from the deployment's limits for one attempt, which ends with used(), leave() or the next
  // enter().
  [[nodiscard]] bool enter(std::string_view deployment);
  // The deployment was not asked after all.
  void leave();
  // The attempt has ended with this usage; it counts for the key too.
  void used(const Usage& usage);
  // No more attempts.
  void end();

  // Of the limited deployments the one that may be asked first; nothing when none was limited.
  [[nodiscard]] const std::optional<RateRefusal>& limited_deployment() const {
    return limited_deployment_;
  }
  // For the answer's headers: the key's own, never a deployment's, which others share.
  [[nodiscard]] RateStanding standing() const;

 private:
  void note_limited(RateRefusal refusal);

  const RateLimiter* limiter_;
  const Clock& clock_;
  LaneMetrics& metrics_;
  std::uint64_t tokens_ = 0;  // the worst case
  std::uint64_t tokens_used_ = 0;
  RateTicket key_;
  RateTicket deployment_;
  std::optional<RateRefusal> limited_deployment_;
};

}  // namespace outlast::gateway
