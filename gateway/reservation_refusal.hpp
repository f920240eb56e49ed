// What a caller is told when the ledger does not take its request. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "gateway/exchange.hpp"
#include "gateway/seams.hpp"

namespace outlast::gateway {

inline constexpr std::string_view budget_exhausted_code = "budget_exhausted";

struct ReservationRefusal {
  Refusal refusal;
  std::string_view type;  // of OpenAI's error shape
  std::string_view code;
};

// 429 for a budget, 409 and 422 for an Idempotency-Key, else 503. `now_ms` is the wall clock's.
ReservationRefusal reservation_refusal(const Error& error, const MeterRefusal& why, std::int64_t now_ms);

// "the budget 'search' has 0.12 of 500.00 USD left this month and this request may cost 0.30; …".
std::string budget_message(const BudgetShortfall& shortfall);

}  // namespace outlast::gateway
