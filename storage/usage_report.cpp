#include "storage/usage_report.hpp"

#include <algorithm>
#include <chrono>
#include <limits>

#include "storage/rows.hpp"

namespace outlast::storage {
std::optional<UsageDimension> parse_usage_dimension(std::string_view name) {
  const auto* at =
      std::find(std::begin(usage_dimension_names), std::end(usage_dimension_names), name);
  if (at == std::end(usage_dimension_names)) return std::nullopt;
  return static_cast<UsageDimension>(at - std::begin(usage_dimension_names));
}

std::optional<UsageEvery> parse_usage_every(std::string_view name) {
  const auto* at = std::find(std::begin(usage_every_names), std::end(usage_every_names), name);
  if (at == std::end(usage_every_names)) return std::nullopt;
  return static_cast<UsageEvery>(at - std::begin(usage_every_names));
}

std::optional<UsageSort> parse_usage_sort(std::string_view name) {
  const auto* at = std::find(std::begin(usage_sort_names), std::end(usage_sort_names), name);
  if (at == std::end(usage_sort_names)) return std::nullopt;
  return static_cast<UsageSort>(at - std::begin(usage_sort_names));
}

std::int64_t bucket_start_ms(UsageEvery every, std::int64_t time_ms) {
  using namespace std::chrono;
  const std::int64_t day = time_ms / day_ms;
  switch (every) {
    case UsageEvery::hour: return time_ms / hour_ms * hour_ms;
    case UsageEvery::day: return day * day_ms;
    case UsageEvery::week: {
      constexpr std::int64_t days_since_monday = 3;  // 1970-01-01 was a Thursday
      return std::max<std::int64_t>((day + days_since_monday) / 7 * 7 - days_since_monday, 0) *
             day_ms;
    }
    case UsageEvery::month: {
      const year_month_day date{sys_days{days{day}}};
      return sys_days{date.year() / date.month() / 1}.time_since_epoch().count() * day_ms;
    }
  }
  return 0;
}

std::int64_t bucket_end_ms(UsageEvery every, std::int64_t start_ms) {
  constexpr std::int64_t days_in_any_month = 32;
  switch (every) {
    case UsageEvery::hour: return start_ms + hour_ms;
    case UsageEvery::day: return start_ms + day_ms;
    case UsageEvery::week: return bucket_start_ms(every, start_ms + 7 * day_ms);
    case UsageEvery::month: return bucket_start_ms(every, start_ms + days_in_any_month * day_ms);
  }
  return start_ms;
}

UsageTotals& UsageTotals::operator+=(const UsageTotals& other) {
  requests += other.requests;
  attempts += other.attempts;
  failed_attempts += other.failed_attempts;
  unpriced += other.unpriced;
  estimated += other.estimated;
  cost += other.cost;
  overrun += other.overrun;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (__builtin_add_overflow(tokens[i], other.tokens[i], &tokens[i]))
      tokens[i] = std::numeric_limits<std::uint64_t>::max();
  }
  duration += other.duration;
  first_event += other.first_event;
  return *this;
}

}  // namespace outlast::storage
