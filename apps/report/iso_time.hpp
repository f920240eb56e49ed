// Times and days in reports, in UTC.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace outlast::apps {

inline constexpr std::int64_t report_day_ms = 86'400'000;

// "2026-11-01T12:00:00Z"; milliseconds since 1970.
std::string iso_time(std::int64_t unix_ms);
// "2026-11-01"; days since 1970.
std::string iso_day(std::int64_t day);
// "2026-11-01" and what may follow it in a time of day; nothing for what is no date.
std::optional<std::int64_t> parse_iso_day(std::string_view text);

}  // namespace outlast::apps
