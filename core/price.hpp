// Price: what one provider charges for one model, as integers of 1e-12 US dollars. No charge is ever divided, so none
// is ever rounded.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/money.hpp"
#include "core/usage.hpp"

namespace outlast {

using TokenPrices = std::array<PicoUsd, usage_bucket_count>;  // per token, in the order of usage_buckets
using UnitPrices = std::array<PicoUsd, billed_unit_count>;    // per piece, in the order of billed_units

// What a request costs once its context is longer than a threshold.
//   cliff     input beyond the threshold puts every token of the request, output too, at the new prices
//   marginal  each token costs what its place in the context costs: the input in the order cache reads, cache writes,
//             images, audio, uncached (a cache holds the start of a prompt), then the output
enum class ThresholdMode : std::uint8_t { cliff = 0, marginal = 1 };
inline constexpr std::string_view threshold_mode_names[] = {"cliff", "marginal"};

struct PriceThreshold {
  std::uint64_t above_tokens = 0;  // the first token at the new prices is the next one
  TokenPrices per_token{};
  bool operator==(const PriceThreshold&) const = default;
};
inline constexpr std::size_t price_thresholds_max = 8;

struct Price {
  TokenPrices per_token{};  // below every threshold
  PicoUsd per_request;
  UnitPrices per_unit{};
  ThresholdMode mode = ThresholdMode::cliff;  // of all thresholds
  std::vector<PriceThreshold> thresholds;     // by above_tokens, each once

  bool operator==(const Price&) const = default;
};

// Exact: whole tokens and pieces times integer prices.
PicoUsd cost_of(const Price& price, const Usage& usage, const BilledUnits& units = {});

// An upper bound: every input token at the dearest input price, every output token at the dearest output price, over
// the thresholds that so many tokens can pass. Pieces are not bounded by tokens and not counted.
PicoUsd worst_case_of(const Price& price, std::uint64_t input_tokens_max, std::uint64_t output_tokens_max);

}  // namespace outlast
