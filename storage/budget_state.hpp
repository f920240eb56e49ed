// BudgetState: the part of the ledger's state machine that keeps budgets: what each may spend, has
// used, holds and has granted to slices, and which of them a request touches.
//
// For every hard budget used + held + sliced <= amount, unless a person lowered the amount below
// what was spent already; then nothing is added until there is room again. Pure, and a function of
// the entries alone. One owner.
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
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

inline constexpr std::size_t budgets_max = 1'000'000;
inline constexpr std::size_t budget_id_bytes_max = 64;
inline constexpr std::size_t budget_name_bytes_max = 128;

struct BudgetAccount {
  BudgetStatus status;
  std::size_t open = 0;  // reservations that hold of it; it stays while there are any
  bool removed = false;
  bool dirty = false;    // its row is not what it is
  bool touched = false;  // is in touched()
  // For whoever deals out slices, not of the state: what ended reservations returned to the slice
  // since the process started, modulo 2^64, and the largest reservation lately.
  std::uint64_t returned = 0;
  PicoUsd largest;
  // Counts the ends of slices: of the budget becoming soft, of another process. What a reservation
  // took from an ended slice returns to the pool.
  std::uint32_t slice = 0;

  [[nodiscard]] PicoUsd pool() const {
    return status.budget.amount - status.used - status.held - status.sliced;
  }
};

// What one reservation holds of one budget: the reserved amount, less what is charged.
struct BudgetHold {
  BudgetAccount* budget = nullptr;
  PicoUsd from_slice;  // of the reserved amount; of nothing once that slice has ended
  PicoUsd charged;     // of the reserved amount
  std::uint32_t slice = 0;

  // What it took from a slice that is still there.
  [[nodiscard]] PicoUsd live_slice() const {
    return slice == budget->slice ? from_slice : PicoUsd{};
  }
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
  std::optional<LedgerError> grant(const proto::SliceGranted& body);
  std::optional<LedgerError> take_back(const proto::SliceReturned& body);
  // Another process began: the slices of the one before have ended.
  void fence();

  // The budgets that a request is charged along, in order of the kinds of scope and then of ids;
  // appended to `found`. They change when version() does.
  void match(const SpendPath& path, std::vector<BudgetAccount*>& found) const;
  [[nodiscard]] std::uint64_t version() const { return version_; }
  [[nodiscard]] bool has_tag_budgets() const { return tag_budgets_ > 0; }

  // The first budget that has not enough for the amount; null when all have.
  [[nodiscard]] static BudgetAccount* short_of(std::span<BudgetAccount* const> budgets,
                                               PicoUsd amount, bool from_slices);
  [[nodiscard]] static BudgetAccount* short_of(std::span<const BudgetHold> holds, PicoUsd amount,
                                               bool from_slices);
  // A new hold; and more in an old one. Only after short_of() found none.
  BudgetHold hold(BudgetAccount& budget, PicoUsd amount, bool from_slices);
  void hold_more(BudgetHold& hold, PicoUsd amount, bool from_slices);
  // An attempt's cost, of a reservation of `reserved` altogether: up to that it moves from held to
  // used; what is more is no hard budget's.
  void charge(BudgetHold& hold, PicoUsd reserved, const AttemptLine& attempt);
  // The reservation ended: what is left of the hold returns to where it came from.
  void release(BudgetHold& hold, PicoUsd reserved);

  // Recovery: a row; and a hold that the budget's row has counted already. Null: there is no such
  // budget any more.
  void restore(BudgetStatus status);
  BudgetAccount* restore_hold(std::string_view id);

  // Puts the rows that changed since the last call.
  void collect(TableChanges& changes);

  [[nodiscard]] std::size_t size() const { return budgets_.size(); }
  [[nodiscard]] BudgetAccount* find(std::string_view id) const;
  [[nodiscard]] const auto& all() const { return budgets_; }
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
  void end_slice(BudgetAccount& account);
  void drop(BudgetAccount& account);

  std::map<std::string, std::unique_ptr<BudgetAccount>, std::less<>> budgets_;
  ScopeIndex<BudgetAccount*> by_scope_;
  std::set<std::pair<std::int64_t, BudgetAccount*>> ends_;
  std::vector<std::unique_ptr<BudgetAccount>> removed_;  // with open reservations
  std::vector<std::string> erased_;                      // rows to erase
  std::vector<BudgetAccount*> dirty_;
  std::vector<BudgetAccount*> touched_;
  std::size_t tag_budgets_ = 0;
  std::uint64_t version_ = 1;
  std::string row_;  // scratch
};

// What a person did wrong in a budget, in words; also what set() would refuse as invalid.
Result<void> check_budget(const Budget& budget);

}  // namespace outlast::storage
