// PriceBook: what tokens cost, per provider and model, as integers. Immutable once published: any thread.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "core/money.hpp"
#include "core/usage.hpp"

namespace outlast {

// Pico-USD per token of each bucket, plus a price per request.
struct Price {
  std::array<PicoUsd, usage_bucket_count> per_token{};  // in the order of usage_buckets
  PicoUsd per_request;

  bool operator==(const Price&) const = default;
};

// Exact: integer tokens times integer prices; no division, so no rounding.
PicoUsd cost_of(const Price& price, const Usage& usage);

// An upper bound: every input token at the dearest input bucket, every output token at the dearest output bucket.
PicoUsd worst_case_of(const Price& price, std::uint64_t input_tokens_max, std::uint64_t output_tokens_max);

class PriceBook {
 public:
  PriceBook() = default;
  explicit PriceBook(std::string version) : version_(std::move(version)) {}

  // Replaces a price for the same provider and model. Provider "*" stands for every provider without its own price.
  void set(std::string provider, std::string model, Price price);
  // The provider's own price, else that of "*"; null when neither is there.
  [[nodiscard]] const Price* find(std::string_view provider, std::string_view model) const;
  [[nodiscard]] const std::string& version() const { return version_; }
  [[nodiscard]] const auto& prices() const { return prices_; }

 private:
  std::string version_ = "none";
  std::map<std::string, std::map<std::string, Price, std::less<>>, std::less<>> prices_;  // provider, model
};

}  // namespace outlast
