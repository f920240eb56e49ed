// UsageCache: the roll-up rows of hours that recent entries touched, of every kind. Part of
// RowCache, which says when rows are written and forgotten. One owner.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/metering.hpp"
#include "storage/log.hpp"
#include "storage/usage_rows.hpp"

namespace outlast::storage {

// What a caller calls a request, for reports: each label has rows of its own.
struct UsageLabels {
  std::vector<std::string> tags;  // each once
  std::string session;            // empty for none
  // Null when there are none.
  static std::unique_ptr<const UsageLabels> of(const Reservation& reservation);
};

// Counts one attempt in a row.
void add_attempt(UsageTotals& row, const AttemptLine& attempt);

class UsageCache {
 public:
  // Who pays and what was bought, by identity, which lasts until clear().
  struct Cell {
    const void* payer;
    const void* leg;  // null for voided requests
    std::uint8_t status;
    bool operator==(const Cell&) const = default;
  };

  explicit UsageCache(const LedgerView& view) : view_(view) {}
  UsageCache(const UsageCache&) = delete;
  UsageCache& operator=(const UsageCache&) = delete;

  // The rows that something counts in at `time_ms`, marked as changed: that of its hour and one
  // more for each label (null: none). Valid until the next call. `names` are the cell's; their hour
  // is not used.
  Result<std::span<UsageTotals* const>> rows(std::int64_t time_ms, const Cell& cell,
                                             const RollupKey& names, const UsageLabels* labels);

  // Puts every changed row; they stay changed until clear_changed().
  void copy_changed(TableChanges& changes);
  void clear_changed();
  [[nodiscard]] bool dirty() const { return !dirty_.empty(); }
  [[nodiscard]] std::size_t size() const { return rollups_.size(); }
  // Only while nothing is dirty.
  void clear();

 private:
  struct Id {
    Cell cell;
    std::uint32_t hour;
    RollupKind kind;
    std::string_view label;
    bool operator==(const Id&) const = default;
  };
  struct IdHash {
    std::size_t operator()(const Id& id) const noexcept;
  };
  struct Rollup {
    std::string key;
    std::string label;  // what its Id views
    UsageTotals totals;
    Table table = Table::rollup;
    bool dirty = false;
    bool without_latency = false;
  };

  Result<Rollup*> find(const Id& id, const RollupKey& names);
  Result<void> add(const Id& id, const RollupKey& names);

  const LedgerView& view_;
  std::unordered_map<Id, std::unique_ptr<Rollup>, IdHash> rollups_;
  std::vector<Rollup*> dirty_;
  std::vector<UsageTotals*> found_;  // of the last call of rows()
  std::string scratch_;
};

}  // namespace outlast::storage
