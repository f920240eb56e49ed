#include "gateway/exchange_rates.hpp"

#include <algorithm>
#include <utility>

namespace outlast::gateway {
namespace {

constexpr std::uint64_t choices_counted_max = 1'000;  // so that products stay exact

void count(LaneMetrics& metrics, const RateRefusal& refusal) {
  metrics.limited[static_cast<std::size_t>(refusal.scope.kind)][refusal.of_tokens ? 1 : 0].add();
}

}  // namespace

std::uint64_t worst_case_tokens(const ChatHead& head, std::uint64_t input_bytes,
                                const ServingPolicy& serving) {
  const std::uint64_t output =
      std::min(output_tokens_bound(head, serving), output_tokens_max_per_choice);
  return input_bytes + template_tokens_max +
         output * std::clamp<std::uint64_t>(head.choices, 1, choices_counted_max);
}

std::optional<RateRefusal> ExchangeRates::admit(const VirtualKey& key, std::uint64_t tokens) {
  tokens_ = tokens;
  if (limiter_ == nullptr) return std::nullopt;
  auto refusal = limiter_->admit(key.tenant, key.id, tokens, clock_.monotonic_ns(), key_);
  if (refusal) count(metrics_, *refusal);
  return refusal;
}

bool ExchangeRates::limited(std::string_view deployment) {
  if (limiter_ == nullptr) return false;
  auto refusal = limiter_->check_deployment(deployment, tokens_, clock_.monotonic_ns());
  if (!refusal) return false;
  note_limited(std::move(*refusal));
  return true;
}

bool ExchangeRates::enter(std::string_view deployment) {
  if (limiter_ == nullptr) return true;
  used({});
  deployment_ = RateTicket();
  auto refusal =
      limiter_->admit_deployment(deployment, tokens_, clock_.monotonic_ns(), deployment_);
  if (!refusal) return true;
  note_limited(std::move(*refusal));
  return false;
}

void ExchangeRates::leave() {
  if (limiter_ != nullptr) limiter_->cancel(deployment_, clock_.monotonic_ns());
}

void ExchangeRates::used(const Usage& usage) {
  if (limiter_ == nullptr) return;
  const std::uint64_t tokens = std::min(usage.input_total() + usage.output_total(), 2 * tokens_);
  tokens_used_ += tokens;
  limiter_->settle(deployment_, tokens, clock_.monotonic_ns());
}

void ExchangeRates::end() {
  if (limiter_ == nullptr) return;
  used({});
  limiter_->settle(key_, tokens_used_, clock_.monotonic_ns());
}

RateStanding ExchangeRates::standing() const {
  return limiter_ == nullptr ? RateStanding{} : limiter_->standing(key_, clock_.monotonic_ns());
}

void ExchangeRates::note_limited(RateRefusal refusal) {
  count(metrics_, refusal);
  if (!limited_deployment_ || refusal.wait_ns < limited_deployment_->wait_ns)
    limited_deployment_ = std::move(refusal);
}

}  // namespace outlast::gateway
