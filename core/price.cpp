#include "core/price.hpp"

#include <algorithm>

namespace outlast {
namespace {

using Tokens = unsigned __int128;  // sums of counts that providers report never wrap

// The buckets in the order of a context's tokens, for marginal thresholds.
constexpr std::size_t context_order[usage_bucket_count] = {1, 2, 3, 5, 4, 0, 7, 6, 8};
static_assert(usage_buckets[1].name == "input_cache_read" && usage_buckets[0].name == "input_uncached");
static_assert(usage_buckets[7].name == "output_reasoning" && usage_buckets[6].name == "output_text");

PicoUsd cost_at(const TokenPrices& prices, const Usage& usage) {
  PicoUsd cost;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) cost += prices[i] * (usage.*usage_buckets[i].member);
  return cost;
}

const TokenPrices& cliff_prices(const Price& price, const Usage& usage) {
  Tokens input = 0;
  for (std::size_t i = 0; i < input_bucket_count; ++i) input += usage.*usage_buckets[i].member;
  const TokenPrices* prices = &price.per_token;
  for (const PriceThreshold& threshold : price.thresholds) {
    if (input > threshold.above_tokens) prices = &threshold.per_token;
  }
  return *prices;
}

PicoUsd marginal_cost(const Price& price, const Usage& usage) {
  PicoUsd cost;
  Tokens position = 0;
  std::size_t next = 0;  // the first threshold that is not passed
  const TokenPrices* prices = &price.per_token;
  for (const std::size_t bucket : context_order) {
    std::uint64_t left = usage.*usage_buckets[bucket].member;
    while (left > 0) {
      while (next < price.thresholds.size() && position >= price.thresholds[next].above_tokens) {
        prices = &price.thresholds[next++].per_token;
      }
      std::uint64_t here = left;
      if (next < price.thresholds.size()) {
        here = static_cast<std::uint64_t>(std::min<Tokens>(left, price.thresholds[next].above_tokens - position));
      }
      cost += (*prices)[bucket] * here;
      position += here;
      left -= here;
    }
  }
  return cost;
}

struct Dearest {
  PicoUsd input;
  PicoUsd output;
  void take(const TokenPrices& prices) {
    for (std::size_t i = 0; i < usage_bucket_count; ++i) {
      PicoUsd& dearest = i < input_bucket_count ? input : output;
      dearest = std::max(dearest, prices[i]);
    }
  }
};

}  // namespace

PicoUsd cost_of(const Price& price, const Usage& usage, const BilledUnits& units) {
  PicoUsd cost = price.per_request;
  for (std::size_t i = 0; i < billed_unit_count; ++i) cost += price.per_unit[i] * (units.*billed_units[i].member);
  if (price.thresholds.empty()) return cost + cost_at(price.per_token, usage);
  if (price.mode == ThresholdMode::marginal) return cost + marginal_cost(price, usage);
  return cost + cost_at(cliff_prices(price, usage), usage);
}

PicoUsd worst_case_of(const Price& price, std::uint64_t input_tokens_max, std::uint64_t output_tokens_max) {
  Dearest dearest;
  dearest.take(price.per_token);
  const bool marginal = price.mode == ThresholdMode::marginal;
  const Tokens reach = static_cast<Tokens>(input_tokens_max) + (marginal ? output_tokens_max : 0);
  for (const PriceThreshold& threshold : price.thresholds) {
    if (reach > threshold.above_tokens) dearest.take(threshold.per_token);
  }
  return price.per_request + dearest.input * input_tokens_max + dearest.output * output_tokens_max;
}

}  // namespace outlast
