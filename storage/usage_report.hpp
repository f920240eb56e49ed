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

namespace outlast::storage {

// What rows can be grouped by. `model` is what the caller asked for (a route or a model name), as
// on the caller's invoice; `model_served` is the model as the provider knows it. `route` is the
// same as `model`.
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
};
inline constexpr std::string_view usage_dimension_names[] = {
    "organisation", "team",     "user",       "key",   "model",
    "model_served", "provider", "deployment", "route", "status"};
inline std::string_view name_of(UsageDimension dimension) {
  return usage_dimension_names[static_cast<std::size_t>(dimension)];
}
std::optional<UsageDimension> parse_usage_dimension(std::string_view name);

struct UsageQuery {
  std::vector<UsageDimension> by;  // none: one row of totals
  // Hour-granular: from the start of the hour that holds `since_ms`, to the end of the hour that
  // holds `until_ms - 1`.
  std::optional<std::int64_t> since_ms;
  std::optional<std::int64_t> until_ms;
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

  bool operator==(const UsageTotals&) const = default;
  UsageTotals& operator+=(const UsageTotals& other);
};

struct UsageRow {
  std::vector<std::string> group;  // one value per dimension of the query
  UsageTotals totals;
};

struct UsageReport {
  std::vector<UsageDimension> by;
  std::vector<UsageRow> rows;  // sorted by group
  UsageTotals total;
};

struct VerifyReport {
  bool ok = false;
  std::uint64_t entries = 0;  // that were checked
  std::optional<std::uint64_t> first_bad_index;
  std::string problem;  // empty when ok; else what is wrong and where
  Digest head_hash{};   // of the last good entry
  std::uint64_t open_reservations = 0;
  PicoUsd charged;  // the sum over all tenants, which is the sum over all providers
  PicoUsd overrun;
  std::uint64_t signed_heads = 0;  // that the log was found to hold
};

}  // namespace outlast::storage
