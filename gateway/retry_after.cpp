#include "gateway/retry_after.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <string>

namespace outlast::gateway {
namespace {

constexpr double retry_after_ms_max = 24.0 * 3600 * 1000;

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<std::uint32_t> milliseconds(std::string_view text, double unit_ms) {
  if (text.find_first_not_of("0123456789.") != std::string_view::npos) return std::nullopt;
  double value = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0))
    return std::nullopt;
  return static_cast<std::uint32_t>(std::ceil(std::min(value * unit_ms, retry_after_ms_max)));
}

std::optional<int> digits(std::string_view text, std::size_t at, std::size_t count) {
  int value = 0;
  const char* const begin = text.data() + at;
  const auto [end, error] = std::from_chars(begin, begin + count, value);
  if (error != std::errc() || end != begin + count || value < 0) return std::nullopt;
  return value;
}

// "Sun, 06 Nov 1994 08:49:37 GMT": the one form that is still sent.
std::optional<std::int64_t> http_date_s(std::string_view text) {
  static constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  if (text.size() != 29 || text.substr(25) != " GMT" || text[3] != ',') return std::nullopt;
  const auto day = digits(text, 5, 2);
  const auto year = digits(text, 12, 4);
  const auto hour = digits(text, 17, 2);
  const auto minute = digits(text, 20, 2);
  const auto second = digits(text, 23, 2);
  const std::size_t month = months.find(text.substr(8, 3));
  if (!day || !year || !hour || !minute || !second || month == std::string_view::npos ||
      month % 3 != 0) {
    return std::nullopt;
  }
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(static_cast<unsigned>(month / 3 + 1)),
                                         std::chrono::day(static_cast<unsigned>(*day))};
  if (!date.ok() || *hour > 23 || *minute > 59 || *second > 60) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch().count();
  return static_cast<std::int64_t>(days) * 86'400 + *hour * 3'600 + *minute * 60 + *second;
}

}  // namespace

std::optional<std::uint32_t> parse_retry_after(std::string_view retry_after,
                                               std::string_view retry_after_ms,
                                               std::int64_t now_s) {
  if (const auto wait = milliseconds(trimmed(retry_after_ms), 1)) return wait;
  const std::string_view text = trimmed(retry_after);
  if (const auto wait = milliseconds(text, 1000)) return wait;
  const auto date = http_date_s(text);
  if (!date) return std::nullopt;
  const double wait_ms = std::max(0.0, static_cast<double>(*date - now_s) * 1000);
  return static_cast<std::uint32_t>(std::min(wait_ms, retry_after_ms_max));
}

}  // namespace outlast::gateway
