#include "apps/outlast/time_argument.hpp"

#include <charconv>
#include <chrono>
#include <tuple>

#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/clock.hpp"

namespace outlast::apps {
namespace {

constexpr std::int64_t age_units_max = 1'000'000;

// Exactly `digits` digits at the start of `text`, taken away from it.
std::optional<int> take_number(std::string_view& text, std::size_t digits) {
  if (text.size() < digits) return std::nullopt;
  int value = 0;
  for (std::size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return value;
}

bool take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// HH:MM[:SS][Z], all of it.
std::optional<std::int64_t> parse_clock_ms(std::string_view text) {
  const auto hour = take_number(text, 2);
  if (!hour || *hour > 23 || !take(text, ':')) return std::nullopt;
  const auto minute = take_number(text, 2);
  if (!minute || *minute > 59) return std::nullopt;
  int second = 0;
  if (take(text, ':')) {
    const auto given = take_number(text, 2);
    if (!given || *given > 59) return std::nullopt;
    second = *given;
  }
  take(text, 'Z');
  if (!text.empty()) return std::nullopt;
  return ((*hour * 60 + *minute) * 60 + second) * std::int64_t{1'000};
}

}  // namespace

std::optional<std::int64_t> parse_duration_ms(std::string_view text) {
  std::int64_t count = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), count);
  if (parsed.ec != std::errc{} || count < 0 || count > age_units_max) return std::nullopt;
  const std::string_view unit = text.substr(static_cast<std::size_t>(parsed.ptr - text.data()));
  if (unit == "s") return count * 1'000;
  if (unit == "m") return count * 60'000;
  if (unit == "h") return count * 3'600'000;
  if (unit == "d") return count * 86'400'000;
  if (unit == "w") return count * 7 * 86'400'000;
  return std::nullopt;
}

std::optional<std::int64_t> parse_time_argument(std::string_view text, std::int64_t now_ms) {
  if (const auto age = parse_duration_ms(text)) return now_ms - *age;
  const auto year = take_number(text, 4);
  if (!year || !take(text, '-')) return std::nullopt;
  const auto month = take_number(text, 2);
  if (!month || !take(text, '-')) return std::nullopt;
  const auto day = take_number(text, 2);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{*year},
                                         std::chrono::month{static_cast<unsigned>(*month)},
                                         std::chrono::day{static_cast<unsigned>(*day)}};
  if (!date.ok()) return std::nullopt;
  const std::int64_t day_ms =
      std::chrono::sys_days{date}.time_since_epoch().count() * std::int64_t{86'400'000};
  if (text.empty()) return day_ms;
  if (!take(text, 'T') && !take(text, ' ')) return std::nullopt;
  const auto clock_ms = parse_clock_ms(text);
  if (!clock_ms) return std::nullopt;
  return day_ms + *clock_ms;
}

Result<void> read_time_options(const std::string& since, const std::string& until,
                               std::optional<std::int64_t>& since_ms,
                               std::optional<std::int64_t>& until_ms) {
  const SystemClock clock;
  for (const auto& [option, text, into] :
       {std::tuple{"--since", &since, &since_ms}, std::tuple{"--until", &until, &until_ms}}) {
    if (text->empty()) continue;
    *into = parse_time_argument(*text, clock.wall_ms());
    if (*into) continue;
    return fail(CliError::usage, std::string(option) + ": '" + printable(*text) +
                                     "' is not a time; write 30m, 24h, 7d, 2026-11-01 or " +
                                     "2026-11-01T12:00Z");
  }
  return {};
}

}  // namespace outlast::apps
