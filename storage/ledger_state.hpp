// LedgerState: the ledger's deterministic state machine. It decides whether an operation becomes an
// entry, and what follows from it: balances, roll-ups, dedup rows, keys. The same entries in the
// same order give the same rows anywhere.
//
// Pure: no threads, no clocks; what it does not hold it reads through a LedgerView. One owner. An
// error (Result) is a fault of that view, after which the state must not be used; a refusal is an
// outcome.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/metering.hpp"
#include "core/virtual_key.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/breaker_table.hpp"
#include "storage/budget_state.hpp"
#include "storage/commitment_state.hpp"
#include "storage/holder_table.hpp"
#include "storage/ledger_error.hpp"
#include "storage/log.hpp"
#include "storage/money_rows.hpp"
#include "storage/node_table.hpp"
#include "storage/recent_ids.hpp"
#include "storage/row_cache.hpp"
#include "storage/rows.hpp"
#include "storage/spend_plan.hpp"

namespace outlast::storage {

inline constexpr std::int64_t dedup_age_ms_max = 35LL * 24 * hour_ms;
inline constexpr std::size_t text_bytes_max = 1024;  // of each name in an entry
inline constexpr std::size_t prices_bytes_max = 1U << 20;
inline constexpr std::size_t attempts_per_request_max = 64;
inline constexpr std::size_t extensions_per_request_max = 4'096;
inline constexpr std::size_t tags_max = 8;
inline constexpr std::size_t tag_bytes_max = 64;
inline constexpr std::size_t session_bytes_max = 128;
inline constexpr std::size_t candidates_max = 64;
inline constexpr PicoUsd amount_max{static_cast<__int128>(1'000'000'000'000'000'000) *
                                    1'000'000'000'000};

enum class Outcome : std::uint8_t {
  applied = 0,    // the entry stands
  duplicate = 1,  // the same operation stands already: success without an entry
  refused = 2,
};

struct Applied {
  Outcome outcome = Outcome::applied;
  LedgerError error{};  // when refused
  PicoUsd overrun;      // of settle and void: what goes into the entry
  bool operator==(const Applied&) const = default;
};

inline Applied refused(LedgerError error) { return {Outcome::refused, error, {}}; }

// The tables in Table::meta whose changed rows are in every batch: they are as of the head, and a
// replay leaves them alone.
struct StandingTable {
  char prefix;
  std::string_view row_name;  // for messages
};
inline constexpr StandingTable standing_tables[] = {{key_prefix, "virtual key"},
                                                    {breaker_prefix, "spend breaker"},
                                                    {member_prefix, "row of a cluster's node"}};

class LedgerState {
 public:
  // `view` outlives the state and shows what was collected once it is committed. `max_ended_id`:
  // the head's.
  explicit LedgerState(const LedgerView& view, const RequestId& max_ended_id = {});
  LedgerState(const LedgerState&) = delete;
  LedgerState& operator=(const LedgerState&) = delete;

  // `header` is that of the entry that the operation becomes if it is applied.
  Result<Applied> apply(const proto::EntryHeader& header,
                        const proto::IncarnationStarted& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const Reservation& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const AttemptLine& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const Settlement& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const VoidReservation& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const VirtualKey& created);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::KeyRevoked& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::PricesRecorded& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::BudgetSet& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::BudgetRemoved& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::BudgetRolled& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::SliceGranted& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::SliceReturned& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::CommitmentAdded& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::CommitmentEnded& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const ReservationExtension& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const BreakerTripped& operation) {
    return apply_breaker(header, operation);
  }
  Result<Applied> apply(const proto::EntryHeader& header, const BreakerReset& operation) {
    return apply_breaker(header, operation);
  }
  Result<Applied> apply(const proto::EntryHeader& header, const BreakerRuleChange& operation) {
    return apply_breaker(header, operation);
  }
  // Clusters (ledger_cluster.cpp).
  Result<Applied> apply(const proto::EntryHeader& header, const proto::OwnerStarted& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::HolderEnded& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const NodeEnrolled& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const NodeChanged& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const JoinTokenMade& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const SettingSet& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::AllotmentGranted& operation);
  Result<Applied> apply(const proto::EntryHeader& header, const proto::AllotmentReturned& operation);
  // An entry of the log; refused with `corrupt` when its overrun is not what follows from the
  // entries before it.
  Result<Applied> apply(const proto::LedgerEntry& entry);

  // What the operations since the last committed() change in the tables: dedup rows, idempotency
  // keys, keys and prices always; balances and roll-ups when `rows`, since their last collection;
  // budgets, commitments and rows of all open reservations when `open` (then also `rows`), so that
  // a replay can start at the end of this batch. No apply() from here to committed().
  TableChanges& collect(bool rows, bool open);
  // The collected changes are in the view.
  void committed();
  // For checks: what the view lacks of the rows as of now, as collect() would put it, but nothing
  // counts as collected; and every row of what has rows only as of a checkpoint.
  void copy_rows(TableChanges& changes);

  // Recovery of what memory held: rows first, then the entries since the head's replay_from, in
  // order; `charged` for those that balances and roll-ups in the view hold already. Open
  // reservations after budgets and commitments.
  void restore(BudgetStatus budget) { budgets_.restore(std::move(budget)); }
  void restore(CommitmentStatus commitment) { commitments_.restore(std::move(commitment)); }
  bool restore(const SliceRow& row) { return budgets_.restore(row); }
  bool restore(const AllotmentRow& row) {
    return row.commitment ? commitments_.restore(row) : budgets_.restore(row);
  }
  void restore(const EndedHolderRow& row) { holders_.restore(row); }
  void restore(const OpenRow& row);
  // Recovery of what has its rows in every batch (standing_tables): a row of one of those tables;
  // false when it cannot be read.
  bool restore_standing(std::string_view key, std::string_view value);
  Result<void> replay(const proto::LedgerEntry& entry, bool charged);

  [[nodiscard]] std::size_t open_count() const { return open_.size(); }
  [[nodiscard]] bool is_open(const RequestId& id) const { return open_.contains(id); }
  [[nodiscard]] PicoUsd open_amount() const;  // the sum over open reservations
  // What open reservations hold of each budget and commitment that exists, by id, from the
  // reservations themselves.
  [[nodiscard]] std::map<std::string, __int128> budget_holds() const;
  [[nodiscard]] std::map<std::string, __int128> commitment_holds() const;
  // The settlements that end every open reservation whose process died: what was reserved and not
  // yet charged by its attempts, marked estimated. In the order of the reservations. Of all
  // reservations, or of those of one holder.
  [[nodiscard]] std::vector<Settlement> in_doubt() const;
  [[nodiscard]] std::vector<Settlement> in_doubt(const Incarnation& holder) const;
  // Those who have slices or open reservations, in order; whether one has; and whether one ended.
  [[nodiscard]] std::vector<Incarnation> holders() const;
  [[nodiscard]] bool holds_anything(const Incarnation& holder) const;
  [[nodiscard]] bool has_ended(const Incarnation& holder) const {
    return holders_.has_ended(holder);
  }
  [[nodiscard]] const std::map<std::string, VirtualKey, std::less<>>& keys() const { return keys_; }
  [[nodiscard]] const RequestId& max_ended_id() const { return recent_.max(); }

  [[nodiscard]] const BudgetState& budgets() const { return budgets_; }
  [[nodiscard]] const CommitmentState& commitments() const { return commitments_; }
  // After a refusal for budget_exhausted: the budget, and what the caller may be told.
  [[nodiscard]] BudgetAccount* short_budget() const { return short_budget_; }
  [[nodiscard]] BudgetShortfall shortfall() const;
  // The budgets that changed since the last call.
  void clear_touched() { budgets_.clear_touched(); }
  void reset_largest(BudgetAccount& budget) { budget.largest = {}; }
  // Where the cost of the latest attempt went, once each.
  [[nodiscard]] std::optional<FundingChain> take_chain() {
    return std::exchange(chain_, std::nullopt);
  }

 private:
  enum class RowState : std::uint8_t { none, stale, current };
  struct Open {
    std::uint64_t reserve_index = 0;
    RowCache::Payer* payer = nullptr;
    Incarnation holder;
    PicoUsd amount;
    PicoUsd attempts_cost;
    std::uint64_t input_tokens_max = 0;
    std::uint64_t output_tokens_max = 0;
    bool price_known = false;
    RowState row = RowState::none;  // whether the tables hold it, as it is
    std::vector<AttemptRef> attempts;
    std::vector<AttemptRef> extensions;
    std::vector<BudgetHold> budgets;
    std::vector<CommitmentHold> commitments;
    std::unique_ptr<const UsageLabels> labels;  // null for none
  };
  using OpenMap = std::unordered_map<RequestId, Open>;

  // What follows from an entry: in memory always, in balances and roll-ups unless they hold it.
  Result<Open*> begin(const Reservation& reservation, const proto::EntryHeader& header,
                      const SpendPlan* plan, bool charged);
  Result<void> take_attempt(Open& open, const proto::EntryHeader& header,
                            const AttemptLine& attempt, bool charged);
  Result<PicoUsd> settle(OpenMap::iterator at, const proto::EntryHeader& header,
                         const AttemptLine& attempt, bool charged);
  Result<PicoUsd> release(OpenMap::iterator at, const proto::EntryHeader& header, bool charged);
  Result<PicoUsd> close(Open& open, PicoUsd last_cost, bool charged);
  const SpendPlan* plan_of(const Reservation& reservation);
  Result<void> extend(Open& open, const proto::EntryHeader& header,
                      const ReservationExtension& extension, bool charged);
  // One attempt's cost: what budgets and commitments give, and the rest, which is owed.
  Result<RowCache::Leg*> fund(Open& open, const proto::EntryHeader& header,
                              const AttemptLine& attempt, bool charged);
  void release_funds(Open& open);
  void hold_funds(Open& open, const Reservation& reservation, const SpendPlan& plan,
                  std::int64_t time_ms);
  // Why the operation's idempotency key does not let it in.
  Result<std::optional<LedgerError>> key_used(const proto::EntryHeader& header,
                                              const Reservation& operation) const;
  void remember_key(const proto::EntryHeader& header, const Reservation& operation);
  void expect_new_rows(std::string_view budget_id);
  Settlement in_doubt(const RequestId& id, const Open& open) const;
  std::vector<Settlement> in_doubt_of(const Incarnation* holder) const;
  OpenRow row_of(const RequestId& id, const Open& open) const;
  Applied exhausted(BudgetAccount& budget, PicoUsd needed);
  void forget(OpenMap::iterator at);
  template <class Operation>
  Result<Applied> apply_breaker(const proto::EntryHeader& header, const Operation& operation) {
    const BreakerTable::Applied applied = breakers_.apply(header, operation, changes_);
    return Applied{static_cast<Outcome>(applied.verdict), applied.error, {}};
  }
  template <class Operation>
  Result<Applied> apply_member(const proto::EntryHeader& header, const Operation& operation) {
    const NodeTable::Applied applied = nodes_.apply(header, operation, changes_);
    return Applied{static_cast<Outcome>(applied.verdict), applied.error, {}};
  }
  void put_dedup_row(const RequestId& id, const Open& open, std::uint64_t end_index);
  void checkpoint();
  Result<void> replay_money(const proto::LedgerEntry& entry);

  Result<std::optional<DedupRow>> find_ended(const RequestId& id) const;
  Result<std::optional<proto::EntryBody>> entry_at(std::uint64_t index) const;
  template <class Body, class T>
  Result<Applied> repeated(std::uint64_t index, const T& operation, LedgerError otherwise) const;
  template <class Body, class T>
  Result<Applied> after_end(const RequestId& id, const T& operation) const;

  const LedgerView& view_;
  BudgetState budgets_;
  CommitmentState commitments_;
  SpendPlanner planner_;
  RowCache cache_;
  RecentIds recent_;
  OpenMap open_;
  std::map<std::string, VirtualKey, std::less<>> keys_;
  // Ended, with a row still: it goes with the next collection of open reservations, since until
  // then a replay needs it.
  std::vector<RequestId> ended_rows_;
  BreakerTable breakers_;
  HolderTable holders_;
  NodeTable nodes_;
  // Idempotency keys of the batch that is being made.
  std::unordered_map<std::string, IdempotencyRow> batch_keys_;
  BudgetAccount* short_budget_ = nullptr;
  PicoUsd short_amount_;
  std::optional<FundingChain> chain_;
  TableChanges changes_;
  std::string row_;  // scratch
};

}  // namespace outlast::storage
