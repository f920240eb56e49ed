#include "apps/report/iso_time.hpp"

#include <chrono>
#include <cstdio>

namespace outlast::apps {
namespace {

std::optional<unsigned> digits(std::string_view text) {
  unsigned value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  return value;
}

}  // namespace

std::string iso_day(std::int64_t day) {
  const std::chrono::year_month_day date{std::chrono::sys_days{std::chrono::days{day}}};
  char text[48];
  std::snprintf(text, sizeof(text), "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text;
}

std::string iso_time(std::int64_t unix_ms) {
  const std::int64_t day = unix_ms / report_day_ms;
  const auto second = static_cast<int>(unix_ms % report_day_ms / 1'000);
  char text[24];
  std::snprintf(text, sizeof(text), "T%02d:%02d:%02dZ", second / 3'600, second / 60 % 60,
                second % 60);
  return iso_day(day) + text;
}

std::optional<std::int64_t> parse_iso_day(std::string_view text) {
  constexpr std::size_t date_bytes = 10;
  if (text.size() < date_bytes || text[4] != '-' || text[7] != '-') return std::nullopt;
  if (text.size() > date_bytes && text[date_bytes] != 'T' && text[date_bytes] != ' ')
    return std::nullopt;
  const auto year = digits(text.substr(0, 4));
  const auto month = digits(text.substr(5, 2));
  const auto day = digits(text.substr(8, 2));
  if (!year || !month || !day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{static_cast<int>(*year)},
                                         std::chrono::month{*month}, std::chrono::day{*day}};
  if (!date.ok() || date.year() < std::chrono::year{1970}) return std::nullopt;
  return std::chrono::sys_days{date}.time_since_epoch().count();
}

}  // namespace outlast::apps
