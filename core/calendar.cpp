#include "core/calendar.hpp"

#include <date/date.h>
#include <date/tz.h>

#include <chrono>
#include <exception>

namespace outlast {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Instant = date::sys_time<Milliseconds>;

constexpr std::size_t time_zone_bytes_max = 64;
constexpr std::size_t remembered_max = 1'024;

// The first day of the period that holds `day`, and of the next one.
date::local_days first_day(BudgetPeriod period, date::local_days day) {
  switch (period) {
    case BudgetPeriod::week: return day - (date::weekday(day) - date::Monday);
    case BudgetPeriod::month: {
      const date::year_month_day parts(day);
      return date::local_days(parts.year() / parts.month() / 1);
    }
    default: return day;
  }
}
date::local_days next_first_day(BudgetPeriod period, date::local_days first) {
  switch (period) {
    case BudgetPeriod::week: return first + date::weeks(1);
    case BudgetPeriod::month: {
      const date::year_month_day parts(first);
      return date::local_days((parts.year() / parts.month() + date::months(1)) / 1);
    }
    default: return first + date::days(1);
  }
}

// `start_of(local day)` is the instant at which it begins, and grows with the day.
template <class StartOf>
Period period_around(BudgetPeriod period, date::local_days day, std::int64_t at_ms,
                     const StartOf& start_of) {
  date::local_days first = first_day(period, day);
  // Where clocks go back over midnight, the late evening comes again after the next day began.
  while (start_of(next_first_day(period, first)) <= at_ms) first = next_first_day(period, first);
  return {start_of(first), start_of(next_first_day(period, first))};
}

}  // namespace

Result<Period> period_at(BudgetPeriod period, std::string_view time_zone, std::int64_t at_ms) {
  const Instant at{Milliseconds(at_ms)};
  if (period == BudgetPeriod::total && time_zone == "UTC") return Period{};
  if (time_zone == "UTC") {
    const auto day = date::local_days(date::floor<date::days>(at).time_since_epoch());
    return period_around(period, day, at_ms, [](date::local_days first) {
      return std::int64_t{Milliseconds(first.time_since_epoch()).count()};
    });
  }
  const auto unknown = [time_zone](std::string_view why) {
    return fail(CalendarError::unknown_time_zone,
                "'" + std::string(time_zone.substr(0, time_zone_bytes_max)) +
                    "' is no time zone of the IANA data base, such as Europe/Berlin or UTC" +
                    std::string(why));
  };
  if (time_zone.empty() || time_zone.size() > time_zone_bytes_max) return unknown("");
  try {
    const date::time_zone* zone = date::locate_zone(std::string(time_zone));
    if (period == BudgetPeriod::total) return Period{};
    return period_around(
        period, date::floor<date::days>(zone->to_local(at)), at_ms,
        [zone](date::local_days first) {
          // Where clocks skip midnight, the day begins at the change; where it comes twice, at the
          // first.
          return std::int64_t{
              zone->to_sys(date::local_time<Milliseconds>(first), date::choose::earliest)
                  .time_since_epoch()
                  .count()};
        });
  } catch (const std::exception& exception) {
    return unknown(std::string(" (") + exception.what() + "; is the package tzdata installed?)");
  }
}

Result<Period> Calendar::period_at(BudgetPeriod period, const std::string& time_zone,
                                   std::int64_t at_ms) {
  const std::pair<BudgetPeriod, std::string> name(period, time_zone);
  const auto known = latest_.find(name);
  if (known != latest_.end()) {
    const Period& latest = known->second;
    const bool holds =
        latest.end_ms == 0 || (latest.start_ms <= at_ms && at_ms < latest.end_ms);
    if (holds) return latest;
  }
  Result<Period> found = outlast::period_at(period, time_zone, at_ms);
  if (!found) return found;
  if (latest_.size() >= remembered_max) latest_.clear();
  latest_.insert_or_assign(name, *found);
  return found;
}

}  // namespace outlast
