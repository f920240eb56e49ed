// BudgetState: the part of the ledger's state machine that keeps budgets: what each may spend, has
// used, holds and has granted to slices, and which of them a request touches.
//
// For every hard budget used + held + sliced <= part, which is the amount where no ledger of another
// shard spends of it too (storage/allotment.hpp), unless a person lowered the amount below what was
// spent already; then nothing is added until there is room again. `sliced` is the sum of
// all slices: of the process that writes the ledger (nil holder), which ends when another one
// starts, and of each holder of a cluster, which ends with its holder. Pure, and a function of the
// entries alone. One owner.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/budget.hpp"
#include "core/result.hpp"
#include "core/scope_index.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/allotment.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"
#include "storage/money_rows.hpp"

namespace outlast::storage {

inline constexpr std::size_t budgets_max = 1'000'000;
inline constexpr std::size_t budget_id_bytes_max = 64;
inline constexpr std::size_t budget_name_bytes_max = 128;

// What one holder has of one budget. A reservation takes from it, and its end gives back.
struct SliceAccount {
  PicoUsd left;
  PicoUsd granted;   // all that was ever granted, and returned by entries, since it was opened; both
  PicoUsd returned;  // are zero for the nil holder, whose slice nobody has to be told of
  // The index of the entry that granted first: tells it from an earlier slice of the same budget,
  // which ended when the budget was removed or became soft. A count for the nil holder.
  std::uint64_t opened = 0;
};

struct BudgetAccount {
  struct HolderSlice : SliceAccount {
    bool dirty = false;  // its row is not what it is; then the budget's is not either
  };

  BudgetStatus status;
  SliceAccount own;  // the nil holder's
  std::map<Incarnation, HolderSlice> slices;
  Allotments allotments;
  bool stale_allotments = false;  // their rows are not what they are
  std::size_t open = 0;  // reservations that hold of it; it stays while there are any
  bool removed = false;
  bool dirty = false;    // its row is not what it is
  bool touched = false;  // is in touched()
  // For whoever deals out slices, not of the state: what ended reservations returned to the slice
  // since the process started, modulo 2^64, and the largest reservation lately.
  std::uint64_t returned = 0;
  PicoUsd largest;
  [[nodiscard]] PicoUsd pool() const { return status.left() - status.sliced; }
};

// What one reservation holds of one budget: the reserved amount, less what is charged.
struct BudgetHold {
  BudgetAccount* budget = nullptr;
  PicoUsd from_slice;  // of the reserved amount; of nothing once that slice has ended
  PicoUsd charged;     // of the reserved amount
  std::uint64_t slice = 0;  // SliceAccount::opened of the one that it took from

  // What it took from a slice, of the holder that reserved it, that is still there.
  [[nodiscard]] PicoUsd live_slice(const Incarnation& holder) const;
};

class BudgetState {
 public:
  BudgetState() = default;
  BudgetState(const BudgetState&) = delete;
  BudgetState& operator=(const BudgetState&) = delete;

  // Each applies an entry's body: no value, or why it may not stand. `duplicate` when it would
  // change nothing.
  std::optional<LedgerError> set(const proto::BudgetSet& body, std::int64_t time_ms);
  std::optional<LedgerError> remove(const proto::BudgetRemoved& body);
  std::optional<LedgerError> roll(const proto::BudgetRolled& body, std::int64_t time_ms);
  // `index`: of the entry.
  std::optional<LedgerError> grant(const proto::SliceGranted& body, std::uint64_t index);
  std::optional<LedgerError> take_back(const proto::SliceReturned& body);
  std::optional<LedgerError> grant(const proto::AllotmentGranted& body, std::uint64_t index);
  std::optional<LedgerError> take_back(const proto::AllotmentReturned& body);
  // Another process began: the slices of the one before have ended. Holders keep theirs.
  void fence();
  // A holder's slices end. What is left of them counts as used, or returns to the budgets.
  void end_holder(const Incarnation& holder, bool spent);

  // The budgets that a request is charged along, in order of the kinds of scope and then of ids;
  // appended to `found`. They change when version() does.
  void match(const SpendPath& path, std::vector<BudgetAccount*>& found) const;
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] bool has_tag_budgets() const { return tag_budgets_ > 0; }

  // Who reserves, and what.
  struct Demand {
    Incarnation holder;
    PicoUsd amount;
    bool from_slices = false;
  };
  // The first budget that has not enough for it; null when all have.
  [[nodiscard]] static BudgetAccount* short_of(std::span<BudgetAccount* const> budgets,
                                               const Demand& demand);
  [[nodiscard]] static BudgetAccount* short_of(std::span<const BudgetHold> holds,
                                               const Demand& demand);
  // A new hold; and more in an old one. Only after short_of() found none.
  BudgetHold hold(BudgetAccount& budget, const Demand& demand);
  void hold_more(BudgetHold& hold, const Demand& demand);
  // An attempt's cost, of a reservation of `reserved` altogether: up to that it moves from held to
  // used; what is more is no hard budget's.
  void charge(BudgetHold& hold, PicoUsd reserved, const AttemptLine& attempt);
  // The reservation of `holder` ended: what is left of the hold returns to where it came from.
  void release(BudgetHold& hold, PicoUsd reserved, const Incarnation& holder);

  // Recovery: a row, of slices and allotments after those of budgets; and a hold that the budget's
  // row has counted already. Null, and false for a slice or an allotment: there is no such budget
  // any more.
  void restore(BudgetStatus status);
  bool restore(const SliceRow& row);
  bool restore(const AllotmentRow& row);
  BudgetAccount* restore_hold(std::string_view id);

  // Puts the rows that changed since the last call; and, for checks, all of them.
  void collect(TableChanges& changes);
  void copy_rows(TableChanges& changes) const;

  [[nodiscard]] std::size_t size() const { return budgets_.size(); }
  [[nodiscard]] BudgetAccount* find(std::string_view id) const;
  [[nodiscard]] const auto& all() const { return budgets_; }
  // The slice of a holder; null when it has none. The nil holder has one always.
  [[nodiscard]] static const SliceAccount* slice_of(const BudgetAccount& budget,
                                                    const Incarnation& holder);
  // Those who have slices, and of which budgets.
  using SlicedTo = std::map<Incarnation, std::set<BudgetAccount*>>;
  [[nodiscard]] const SlicedTo& holders() const { return sliced_to_; }
  // When the first period ends; the largest number when none does.
  [[nodiscard]] std::int64_t next_end_ms() const;
  // Those whose period has ended by then, by id.
  [[nodiscard]] std::vector<const BudgetAccount*> ended_by(std::int64_t time_ms) const;
  // What changed since clear_touched().
  [[nodiscard]] const std::vector<BudgetAccount*>& touched() const { return touched_; }
  void clear_touched();

 private:
  void touch(BudgetAccount& account);
  void index(BudgetAccount& account);
  void set_period(BudgetAccount& account, std::int64_t start_ms, std::int64_t end_ms);
  void move(BudgetAccount& account, const Incarnation& holder, PicoUsd amount);
  void close_slice(BudgetAccount& account, const Incarnation& holder);
  void end_own_slice(BudgetAccount& account);
  void end_slices(BudgetAccount& account);
  static SliceRow row_of(const Incarnation& holder, const SliceAccount& slice);
  void collect_slices(BudgetAccount& account, TableChanges& changes);
  void allotted(BudgetAccount& account);
  void erase_allotments(const BudgetAccount& account);
  void collect_allotments(BudgetAccount& account, TableChanges& changes);
  void drop(BudgetAccount& account);

  std::map<std::string, std::unique_ptr<BudgetAccount>, std::less<>> budgets_;
  ScopeIndex<BudgetAccount*> by_scope_;
  std::set<std::pair<std::int64_t, BudgetAccount*>> ends_;
  std::vector<std::unique_ptr<BudgetAccount>> removed_;  // with open reservations
  SlicedTo sliced_to_;
  std::vector<std::string> erased_;  // keys of rows to erase
  std::vector<BudgetAccount*> dirty_;
  std::vector<BudgetAccount*> touched_;
  std::size_t tag_budgets_ = 0;
  std::uint64_t version_ = 1;
  std::string row_;  // scratch
};

// What a person did wrong in a budget, in words; also what set() would refuse as invalid.
Result<void> check_budget(const Budget& budget);

}  // namespace outlast::storage
