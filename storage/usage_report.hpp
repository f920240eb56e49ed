// Usage reports: what was spent on what, from the hourly roll-ups. Plain values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/crypto.hpp"
#include "core/money.hpp"
#include "core/usage.hpp"
#include "storage/usage_latency.hpp"

namespace outlast::storage {

// What rows can be grouped by. `model` is what the caller asked for (a route or a model name), as
// on the caller's invoice; `model_served` is the model as the provider knows it. `route` is the
// same as `model`. A request with several tags counts under each of them; one without counts under
// none. Tags and sessions have roll-ups of their own, so a query is about one of the two at most.
enum class UsageDimension : std::uint8_t {
  organisation = 0,
  team = 1,
  user = 2,
  key = 3,
  model = 4,
  model_served = 5,
  provider = 6,
  deployment = 7,
  route = 8,
  status = 9,
  tag = 10,
  session = 11,
};
inline constexpr std::string_view usage_dimension_names[] = {
    "organisation", "team",       "user",  "key",    "model", "model_served",
    "provider",     "deployment", "route", "status", "tag",   "session"};
inline std::string_view name_of(UsageDimension dimension) {
  return usage_dimension_names[static_cast<std::size_t>(dimension)];
}
std::optional<UsageDimension> parse_usage_dimension(std::string_view name);

// The length of a report's time buckets, in UTC; weeks begin on Monday.
enum class UsageEvery : std::uint8_t { hour = 0, day = 1, week = 2, month = 3 };
inline constexpr std::string_view usage_every_names[] = {"hour", "day", "week", "month"};
inline std::string_view name_of(UsageEvery every) {
  return usage_every_names[static_cast<std::size_t>(every)];
}
std::optional<UsageEvery> parse_usage_every(std::string_view name);
// The start of the bucket that holds a moment, and of the one after.
std::int64_t bucket_start_ms(UsageEvery every, std::int64_t time_ms);
std::int64_t bucket_end_ms(UsageEvery every, std::int64_t start_ms);

// What the largest rows are the largest by. Failures: failed attempts.
enum class UsageSort : std::uint8_t { cost = 0, requests = 1, tokens = 2, failures = 3 };
inline constexpr std::string_view usage_sort_names[] = {"cost", "requests", "tokens", "failures"};
std::optional<UsageSort> parse_usage_sort(std::string_view name);

struct UsageFilter {
  UsageDimension dimension;
  std::string value;
};

inline constexpr std::size_t usage_rows_max = 100'000;  // of a report, before `top`
inline constexpr std::size_t usage_filters_max = 64;

struct UsageQuery {
  std::vector<UsageDimension> by;  // none: one row of totals
  // Hour-granular: from the start of the hour that holds `since_ms`, to the end of the hour that
  // holds `until_ms - 1`.
  std::optional<std::int64_t> since_ms;
  std::optional<std::int64_t> until_ms;
  std::optional<UsageEvery> every;  // none: one bucket
  // What counts: any of the values given for a dimension, for each dimension that is given.
  std::vector<UsageFilter> where;
  // Rows of each bucket, the largest first; 0: all, in the order of their groups.
  std::size_t top = 0;
  std::optional<UsageSort> sort;  // with `top`, by cost where absent; alone it only orders
};

// Sums over requests and their attempts. A request counts in the hour and under the status in which
// it ended.
struct UsageTotals {
  std::uint64_t requests = 0;  // ended: settled or voided
  std::uint64_t attempts = 0;  // upstream attempts that are on the record
  std::uint64_t failed_attempts =
      0;                        // of these, those that ended neither ok nor because the caller went
  std::uint64_t unpriced = 0;   // settled requests whose cost is unknown
  std::uint64_t estimated = 0;  // settled requests whose usage is estimated
  PicoUsd cost;
  PicoUsd overrun;                                         // what was spent beyond reservations
  std::array<std::uint64_t, usage_bucket_count> tokens{};  // in the order of usage_buckets
  // Of attempts that a provider was asked: until they ended, and until the first event where there
  // was one. A report that neither groups nor filters by status has those of status ok only.
  Latency duration;
  Latency first_event;

  bool operator==(const UsageTotals&) const = default;
  UsageTotals& operator+=(const UsageTotals& other);
};

struct UsageRow {
  std::int64_t start_ms = 0;       // of the bucket; 0 where the query has none
  std::vector<std::string> group;  // one value per dimension of the query
  UsageTotals totals;
};

struct UsageReport {
  std::vector<UsageDimension> by;
  std::optional<UsageEvery> every;
  std::vector<UsageRow> rows;       // sorted by bucket, then by group or as the query says
  std::uint64_t rows_left_out = 0;  // by `top`
  UsageTotals total;                // of all rows, those left out too
  bool overlapping = false;         // the rows are by tag: a request counts under each of its tags
};

struct VerifyReport {
  bool ok = false;
  std::uint64_t entries = 0;  // that were checked
  std::optional<std::uint64_t> first_bad_index;
  std::string problem;  // empty when ok; else what is wrong and where
  Digest head_hash{};   // of the last good entry
  std::uint64_t open_reservations = 0;
  PicoUsd charged;  // the sum over all tenants, which is that of the three below
  PicoUsd overrun;
  PicoUsd payable;    // owed to providers, on demand
  PicoUsd amortised;  // of what was paid for commitments
  PicoUsd savings;    // what commitments cost less than the list price of what was drawn
  std::uint64_t signed_heads = 0;  // that the log was found to hold
};

}  // namespace outlast::storage
