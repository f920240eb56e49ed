#include "core/attempt_price.hpp"

namespace outlast {

std::optional<PicoUsd> cost_of(const PriceBook& book, const AttemptLine& line) {
  const Price* price = book.find({line.provider, line.model, line.service_tier, line.inference_geo, line.contract,
                                  line.batch, line.request_id.unix_ms()});
  if (price == nullptr) return std::nullopt;
  if (line.usage.source == UsageSource::absent) return PicoUsd{};
  return cost_of(*price, line.usage, line.units);
}

}  // namespace outlast
