// The words of a usage query as people write them, for the command line and the admin interface
// alike. Errors say what would be right.
#pragma once

#include <string>
#include <string_view>

#include "core/result.hpp"
#include "storage/usage_report.hpp"

namespace outlast::apps {

inline constexpr std::size_t usage_top_max = storage::usage_rows_max;

Result<storage::UsageDimension> read_usage_dimension(std::string_view word);
Result<storage::UsageEvery> read_usage_every(std::string_view word);
Result<storage::UsageSort> read_usage_sort(std::string_view word);
// "provider=alpha". The value may be empty: what has none.
Result<storage::UsageFilter> read_usage_filter(std::string_view text);

}  // namespace outlast::apps
