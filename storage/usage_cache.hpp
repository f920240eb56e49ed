// UsageCache: the roll-up rows that recent entries touched, of every kind. Part of RowCache, which
// says when rows are written and forgotten. One owner.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
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

  // The rows that something counts in at `time_ms`, marked as changed: its hour, its day, and the
  // same of each label (null: none). Valid until the next call. `names` are the cell's; their hour
  // is not used.
  Result<std::span<UsageTotals* const>> rows(std::int64_t time_ms, const Cell& cell,
                                             const RollupKey& names, const UsageLabels* labels);

  // Without a first day in the tables there is none until one is set here. From the day after
  // `time_ms` on; `empty`: the ledger has no entries, so from the beginning.
  Result<void> begin_days(std::int64_t time_ms, bool empty);

  // Puts every changed row.
  void collect(TableChanges& changes);
  [[nodiscard]] bool dirty() const { return !dirty_.empty(); }
  [[nodiscard]] std::size_t size() const { return rollups_.size(); }
  // Only while nothing is dirty.
  void clear();

 private:
  struct Id {
    Cell cell;
    std::uint32_t period;  // hour or day
    RollupKind kind;
    bool day;
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
    Rollup* day = nullptr;  // of an hour: the row of its day, where there is one
    Table table = Table::rollup;
    bool dirty = false;
    bool without_latency = false;
  };

  Result<Rollup*> find(RollupKind kind, bool day, std::uint32_t period, const Cell& cell,
                       const RollupKey& names, std::string_view label);
  Result<void> add(RollupKind kind, std::uint32_t hour, const Cell& cell, const RollupKey& names,
                   std::string_view label);
  void mark(Rollup& row);

  const LedgerView& view_;
  std::optional<std::uint32_t> first_day_;
  bool first_day_loaded_ = false;
  bool first_day_changed_ = false;
  std::unordered_map<Id, std::unique_ptr<Rollup>, IdHash> rollups_;
  std::vector<Rollup*> dirty_;
  std::vector<UsageTotals*> found_;  // of the last call of rows()
  std::string scratch_;
};

}  // namespace outlast::storage
