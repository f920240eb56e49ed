// Times on the command line: an age or a moment in UTC.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::apps {

// "90s", "30m", "24h", "7d", "2w" before `now_ms`; "2026-11-01", "2026-11-01T12:30",
// "2026-11-01T12:30:15Z" in UTC. Milliseconds since 1970; nothing when the text is neither.
std::optional<std::int64_t> parse_time_argument(std::string_view text, std::int64_t now_ms);

// "90s", "30m", "24h", "7d", "2w"; nothing when the text is none of these.
std::optional<std::int64_t> parse_duration_ms(std::string_view text);
// --since and --until; nothing of an empty text. Error: usage.
Result<void> read_time_options(const std::string& since, const std::string& until,
                               std::optional<std::int64_t>& since_ms,
                               std::optional<std::int64_t>& until_ms);

}  // namespace outlast::apps
