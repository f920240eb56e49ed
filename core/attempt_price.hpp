// What an attempt costs by a price book: the same answer when it is settled and when history is computed again.
#pragma once

#include <optional>

#include "core/metering.hpp"
#include "core/price_book.hpp"

namespace outlast {

// From what the line says: provider, model, contract, what was answered, the time of its request's id, usage and
// pieces. Zero where no usage is known; absent where no price holds.
std::optional<PicoUsd> cost_of(const PriceBook& book, const AttemptLine& line);

}  // namespace outlast
