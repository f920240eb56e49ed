#include "storage/usage_fold.hpp"

#include <algorithm>
#include <optional>

namespace outlast::storage {
namespace {

constexpr std::uint32_t no_hour = UINT32_MAX;

Failure corrupt() {
  return fail(LedgerError::corrupt, "a roll-up row cannot be read; see `outlast ledger verify`");
}

// Sums of rows of days and months, by their keys in Table::usage.
class Sums {
 public:
  // `view`: what stands there already is added to; null: nothing.
  explicit Sums(const LedgerView* view) : view_(view) {}

  // Adds a row of an hour; `key` is after its prefix.
  Result<void> add(RollupKind kind, std::string_view key, std::string_view value) {
    RollupKey names;
    std::string_view label;
    if (!decode_rollup_key(key, names, label)) return corrupt();
    const std::uint32_t day = names.hour / hours_per_day;
    for (const auto& [period, number] :
         {std::pair{RollupPeriod::day, day}, std::pair{RollupPeriod::month, month_of_day(day)}}) {
      names.hour = number;
      key_.clear();
      encode_rollup_key(key_, kind, period, names, label);
      const Result<UsageTotals*> sum = row();
      if (!sum) return fail(sum.error());
      if (!add_rollup(value, true, **sum)) return corrupt();
    }
    return {};
  }
  [[nodiscard]] const std::map<std::string, UsageTotals>& rows() const { return rows_; }

 private:
  Result<UsageTotals*> row() {
    const auto at = rows_.find(key_);
    if (at != rows_.end()) return &at->second;
    UsageTotals stored;
    if (view_ != nullptr) {
      const Result<bool> found = view_->get(Table::usage, key_, value_);
      if (!found) return fail(found.error());
      if (*found && !decode(value_, stored)) return corrupt();
    }
    return &rows_.emplace(key_, stored).first->second;
  }

  const LedgerView* view_;
  std::map<std::string, UsageTotals> rows_;
  std::string key_;
  std::string value_;
};

// Calls `visit(key after the prefix, value)` for a kind's rows of hours from a key on.
template <class Visit>
Result<void> scan_hours(const LedgerView& view, RollupKind kind, std::string_view from,
                        std::uint32_t end_hour, const Visit& visit) {
  const RollupPlace place = rollup_place(kind, RollupPeriod::hour);
  const std::string prefix(place.prefix);
  return view.scan(place.table, prefix + std::string(from), prefix + rollup_hour_key(end_hour),
                   [&](std::string_view key, std::string_view value) {
                     return visit(key.substr(prefix.size()), value);
                   });
}

// The first hour from `hour` on that has a row of any kind; `end_hour` when there is none.
Result<std::uint32_t> first_hour(const LedgerView& view, std::uint32_t hour,
                                 std::uint32_t end_hour) {
  std::uint32_t first = end_hour;
  for (const RollupKind kind : rollup_kinds) {
    bool good = true;
    const Result<void> scanned =
        scan_hours(view, kind, rollup_hour_key(hour), first, [&](std::string_view key, auto) {
          RollupKey names;
          std::string_view label;
          good = decode_rollup_key(key, names, label);
          first = std::min(first, names.hour);
          return false;
        });
    if (!scanned) return fail(scanned.error());
    if (!good) return corrupt();
  }
  return first;
}

}  // namespace

Result<std::size_t> fold_rollups(const LedgerView& view, std::uint32_t end_hour,
                                 std::size_t rows_max, TableChanges& changes) {
  Result<FoldedRollups> folded = load_folded(view);
  if (!folded) return fail(folded.error());
  if (folded->hour >= end_hour) return std::size_t{0};
  Sums sums(&view);
  std::size_t rows = 0;
  while (rows < rows_max && folded->hour < end_hour) {
    std::optional<Error> error;
    const std::string from = std::max(folded->key, rollup_hour_key(folded->hour));
    const Result<void> scanned = scan_hours(view, folded->kind, from, folded->hour + 1,
                                            [&](std::string_view key, std::string_view value) {
                                              if (key == folded->key) return true;
                                              const Result<void> added =
                                                  sums.add(folded->kind, key, value);
                                              if (!added) error = added.error();
                                              folded->key = key;
                                              return added && ++rows < rows_max;
                                            });
    if (!scanned) return fail(scanned.error());
    if (error) return fail(std::move(*error));
    if (rows == rows_max) break;
    folded->key.clear();
    if (folded->kind != RollupKind::session) {
      folded->kind = rollup_kinds[static_cast<std::size_t>(folded->kind) + 1];
      continue;
    }
    const Result<std::uint32_t> next = first_hour(view, folded->hour + 1, end_hour);
    if (!next) return fail(next.error());
    *folded = {*next, RollupKind::main, {}};
  }
  std::string row;
  for (const auto& [key, totals] : sums.rows()) {
    row.clear();
    encode(row, totals);
    changes.put(Table::usage, key, row);
  }
  changes.put(Table::usage, folded_key, encode_folded(*folded));
  return rows;
}

Result<std::string> check_folded(const LedgerView& view) {
  const Result<FoldedRollups> folded = load_folded(view);
  if (!folded) return std::string("the row of folded roll-ups cannot be read");
  Sums sums(nullptr);
  for (const RollupKind kind : rollup_kinds) {
    bool good = true;
    const std::uint32_t end_hour = folded->hour == no_hour ? no_hour : folded->hour + 1;
    const Result<void> scanned = scan_hours(view, kind, rollup_hour_key(0), end_hour,
                                            [&](std::string_view key, std::string_view value) {
                                              RollupKey names;
                                              std::string_view label;
                                              good = decode_rollup_key(key, names, label);
                                              if (good && folded->holds(names.hour, kind, key))
                                                good = sums.add(kind, key, value).has_value();
                                              return good;
                                            });
    if (!scanned) return fail(scanned.error());
    if (!good) return std::string("a stored roll-up cannot be read");
  }
  std::string problem;
  std::size_t found = 0;
  std::string row;
  for (const RollupKind kind : rollup_kinds) {
    for (const RollupPeriod period : {RollupPeriod::day, RollupPeriod::month}) {
      std::string from(rollup_place(kind, period).prefix);
      std::string to = from;
      ++to.back();
      const Result<void> scanned =
          view.scan(Table::usage, from, to, [&](std::string_view key, std::string_view value) {
            const auto at = sums.rows().find(std::string(key));
            row.clear();
            if (at != sums.rows().end()) encode(row, at->second);
            if (row != value)
              problem = "a stored roll-up of a day or month is not the sum of its hours";
            ++found;
            return problem.empty();
          });
      if (!scanned) return fail(scanned.error());
      if (!problem.empty()) return problem;
    }
  }
  if (found != sums.rows().size()) problem = "a roll-up of a day or month is not stored";
  return problem;
}

}  // namespace outlast::storage
