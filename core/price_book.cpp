#include "core/price_book.hpp"

#include <algorithm>

namespace outlast {

PicoUsd cost_of(const Price& price, const Usage& usage) {
  PicoUsd cost = price.per_request;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) cost += price.per_token[i] * (usage.*usage_buckets[i].member);
  return cost;
}

PicoUsd worst_case_of(const Price& price, std::uint64_t input_tokens_max, std::uint64_t output_tokens_max) {
  PicoUsd input;
  PicoUsd output;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    auto& dearest = usage_buckets[i].name.starts_with("input") ? input : output;
    dearest = std::max(dearest, price.per_token[i]);
  }
  return price.per_request + input * input_tokens_max + output * output_tokens_max;
}

void PriceBook::set(std::string provider, std::string model, Price price) {
  prices_[std::move(provider)].insert_or_assign(std::move(model), price);
}

const Price* PriceBook::find(std::string_view provider, std::string_view model) const {
  for (const std::string_view name : {provider, std::string_view("*")}) {
    const auto models = prices_.find(name);
    if (models == prices_.end()) continue;
    if (const auto price = models->second.find(model); price != models->second.end()) return &price->second;
  }
  return nullptr;
}

}  // namespace outlast
