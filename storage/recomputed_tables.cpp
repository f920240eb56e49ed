#include "storage/recomputed_tables.hpp"

#include <algorithm>
#include <optional>

#include "storage/usage_rows.hpp"

namespace outlast::storage {

Result<void> RecomputedTables::take(const TableChanges& changes, std::int64_t keep_ids_from_ms) {
  std::optional<Error> error;
  changes.for_each([&](Table table, std::string_view key, std::string_view value) {
    if (table == Table::idempotency) {
      if (const Result<void> kept = take_key(key, value, keep_ids_from_ms); !kept)
        error = kept.error();
      return;
    }
    if (table != Table::dedup) {
      auto& rows = rows_[static_cast<std::size_t>(table)];
      if (value.data() == nullptr) rows.erase(std::string(key));
      else rows[std::string(key)] = value;
      return;
    }
    RequestId id;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(key.data()), id.bytes.size(),
                id.bytes.begin());
    std::string stored;
    const Result<bool> found = stored_.get(table, key, stored);
    if (!found) error = found.error();
    else if (*found ? stored != value : id.unix_ms() >= keep_ids_from_ms) {
      problem_ =
          "the dedup row of request " + id.to_string() + (*found ? " differs" : " is missing");
    }
  });
  if (error) return fail(std::move(*error));
  return {};
}

Result<void> RecomputedTables::take_key(std::string_view key, std::string_view value,
                                        std::int64_t keep_ids_from_ms) {
  std::string bytes;
  const Result<bool> found = stored_.get(Table::idempotency, key, bytes);
  if (!found) return fail(found.error());
  auto& earlier = rows_[static_cast<std::size_t>(Table::idempotency)];
  IdempotencyRow own;
  IdempotencyRow stored;
  if (!decode(value, own)) return {};
  if (*found && bytes == value) {
    if (const auto at = earlier.find(key); at != earlier.end()) earlier.erase(at);
  } else if (*found && decode(bytes, stored) && stored.reserve_index > own.reserve_index) {
    earlier[std::string(key)] = value;  // used again since
  } else if (*found || own.request_id.unix_ms() >= keep_ids_from_ms) {
    problem_ = "the row of the idempotency key of request " + own.request_id.to_string() +
               (*found ? " differs" : " is missing");
  }
  return {};
}

Result<std::string> RecomputedTables::difference(Table table, std::string_view from,
                                                 std::string_view to, std::string_view what) const {
  const auto& all = rows(table);
  auto at = all.lower_bound(from);
  const auto end = to.empty() ? all.end() : all.lower_bound(to);
  std::string problem;
  const Result<void> scanned =
      stored_.scan(table, from, to, [&](std::string_view key, std::string_view value) {
        const bool same = at != end && at->first == key &&
                          (table == Table::rollup || table == Table::usage
                               ? same_rollup(value, at->second)
                               : at->second == value);
        if (same) {
          ++at;
          return true;
        }
        problem = std::string("a stored ") + std::string(what) + " does not follow from the log";
        return false;
      });
  if (!scanned) return fail(scanned.error());
  if (problem.empty() && at != end)
    problem = std::string("a ") + std::string(what) + " that follows from the log is not stored";
  return problem;
}

}  // namespace outlast::storage
