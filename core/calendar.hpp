// Calendar: when the periods of budgets begin and end, in the time zones of the IANA data base.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "core/budget.hpp"
#include "core/result.hpp"

namespace outlast {

enum class CalendarError : std::uint16_t { unknown_time_zone = 1 };
template <>
inline constexpr std::string_view error_module<CalendarError> = "calendar";

// Milliseconds since 1970 UTC.
struct Period {
  std::int64_t start_ms = 0;
  std::int64_t end_ms = 0;  // exclusive; 0: it never ends
  bool operator==(const Period&) const = default;
};

// The period that holds `at_ms`. Days begin at the first instant of the local date, so that one is
// 23 or 25 hours long where clocks change; weeks begin on Monday. "UTC" needs no data base.
Result<Period> period_at(BudgetPeriod period, std::string_view time_zone, std::int64_t at_ms);

// Remembers the latest period of each kind and zone: many budgets ask for the same. One owner.
class Calendar {
 public:
  Result<Period> period_at(BudgetPeriod period, const std::string& time_zone, std::int64_t at_ms);

 private:
  std::map<std::pair<BudgetPeriod, std::string>, Period> latest_;
};

}  // namespace outlast
