// RecomputedTables: what a verifier's replay of the whole log puts into tables, to be compared with
// what is stored. One owner.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "storage/log.hpp"
#include "storage/money_rows.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {

// The tables as they are recomputed, in memory; but dedup rows, of which there is one per request,
// are looked up in the stored table, where a row that ends after the entry in hand does not exist
// yet.
class RecomputedTables final : public LedgerView {
 public:
  explicit RecomputedTables(const LedgerView& stored) : stored_(stored) {}

  Result<bool> get(Table table, std::string_view key, std::string& value) const override {
    if (table == Table::dedup) {
      const Result<bool> found = stored_.get(table, key, value);
      DedupRow row;
      if (!found || !*found || !decode(value, row)) return found;
      return row.end_index < index_;
    }
    if (table == Table::idempotency) {
      // One that is stored may be of a later request; the earlier ones are kept here.
      const auto& earlier = rows_[static_cast<std::size_t>(table)];
      if (const auto at = earlier.find(key); at != earlier.end()) {
        value = at->second;
        return true;
      }
      const Result<bool> found = stored_.get(table, key, value);
      IdempotencyRow row;
      if (!found || !*found || !decode(value, row)) return found;
      return row.reserve_index < index_;
    }
    const auto& rows = rows_[static_cast<std::size_t>(table)];
    const auto at = rows.find(key);
    if (at == rows.end()) return false;
    value = at->second;
    return true;
  }
  Result<void> scan(Table, std::string_view, std::string_view,
                    const std::function<bool(std::string_view, std::string_view)>&) const override {
    return {};
  }
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override {
    return stored_.read(from, visit);
  }

  void at_entry(std::uint64_t index) { index_ = index; }
  // Takes rows over; dedup rows and idempotency keys are compared at once.
  Result<void> take(const TableChanges& changes, std::int64_t keep_ids_from_ms);
  // What differs between a table here and the stored one between two keys; empty when nothing does.
  Result<std::string> difference(Table table, std::string_view from, std::string_view to,
                                 std::string_view what) const;
  Result<void> take_key(std::string_view key, std::string_view value,
                        std::int64_t keep_ids_from_ms);
  [[nodiscard]] const std::string& problem() const { return problem_; }
  [[nodiscard]] const auto& rows(Table table) const {
    return rows_[static_cast<std::size_t>(table)];
  }

 private:
  const LedgerView& stored_;
  std::array<std::map<std::string, std::string, std::less<>>, table_count> rows_;
  std::uint64_t index_ = 0;
  std::string problem_;
};

}  // namespace outlast::storage
