// LedgerWriter: turns operations into a batch of chained entries and makes the batch durable. The
// committer without its thread, so that tests drive it by seeds over a MemoryLog. One owner.
//
// On a single node, open() is all. In a cluster each replica of a shard has one: open_replica(),
// follow() for what the owner wrote, and lead() when its own node becomes the owner; from then on
// add() and commit(), as on a single node, but that slices are not dealt out here (their holders
// ask for them), until it hands over by resign(). After an error from follow(), lead() or commit()
// it is thrown away, and another one opened from what the local log has.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/calendar.hpp"
#include "core/clock.hpp"
#include "core/metering.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/ledger_state.hpp"
#include "storage/log.hpp"
#include "storage/slice_dealer.hpp"

namespace outlast::storage {

class LedgerWriter {
 public:
  // Entries between writes of changed balances and roll-ups: many entries change the same few rows.
  static constexpr std::uint64_t rows_entries = 16'384;
  // Entries between writes of the open reservations: what a start has to read at most. Most never
  // need a row.
  static constexpr std::uint64_t open_entries = 262'144;
  // Roll-ups of hours that one fold() adds to those of days and months: so that it takes no longer
  // than a commit.
  static constexpr std::size_t fold_rows = 256;
  // How often a reservation that is short is decided again for what lanes give back meanwhile.
  static constexpr int take_back_tries_max = 32;
  // Entries in one commit of a recovery.
  static constexpr std::size_t recovery_batch_entries = 4'096;
  // Bytes of one commit while a holder's many reservations are settled: far below what a shared
  // log takes.
  static constexpr std::size_t end_holder_batch_bytes = 192U << 10;

  // Recovers the state from `log` and checks its head; then, durable on return: an incarnation
  // entry, and the settlement, marked in doubt, of every reservation that a dead process left open.
  // `log` and `clock` outlive the writer.
  static Result<std::unique_ptr<LedgerWriter>> open(Log& log, const Clock& clock,
                                                    const Incarnation& incarnation,
                                                    std::string software);
  // A replica: recovers the state from `log`, checks its head, and writes nothing. What is open
  // stays open, and slices stay with their holders.
  static Result<std::unique_ptr<LedgerWriter>> open_replica(Log& log, const Clock& clock);
  LedgerWriter(const LedgerWriter&) = delete;
  LedgerWriter& operator=(const LedgerWriter&) = delete;

  // Adds to the batch what the operation becomes: one entry if applied, else none; before it, the
  // budgets whose period has ended by now roll over. A reservation or extension that is short is
  // decided again once the slices of the short budget are taken back. Of a budget that is set, the
  // period's bounds are filled in here. An error is a fault of the log.
  // `fenced`: a replica adds nothing.
  template <class Operation>
  Result<Applied> add(const Operation& operation);
  Result<Applied> add(const MeteringOperation& operation);
  // The same for an entry's body, as another node sends it: a settlement or void by its operation,
  // whose overrun follows anew. Refused as invalid: what only the writer itself may say (that a
  // process started).
  Result<Applied> add(const proto::EntryBody& body);

  // A replica: takes over a batch of the shared log, `records` as a LogBatch has them, durable on
  // return as `log` is. Entries that are here already are compared and skipped. `corrupt`, naming
  // the index: a gap, a break in the chain, an entry that is not what is here or not allowed after
  // those before it.
  Result<void> follow(std::uint64_t first_index, std::string_view records);
  // The replica's node owns the shard now: entries carry `epoch` from here on, and the first says
  // who wrote them; durable on return. Nothing is settled, since reservations and slices belong to
  // holders. `fenced`: the ledger has entries of a later epoch.
  Result<void> lead(std::uint64_t epoch, const proto::OwnerStarted& who);
  // The owner hands over: it is a replica again, in the same object. Nothing may be pending.
  void resign();
  // A holder will say nothing more: adds the settlement, marked in doubt, of each of its open
  // reservations, then that it ended. What its slices hold returns to the budgets or, if `spent`,
  // counts as used, as it must when nobody knows. May commit in between; the last entry is not
  // durable yet. A duplicate: it has nothing here.
  Result<Applied> end_holder(const Incarnation& holder, bool spent, std::string why);
  // Of all that follows from the entries: open reservations, budgets, slices, commitments, keys,
  // breakers, balances, roll-ups of hours, ended ids. Equal on all replicas with the same
  // next_index(), whatever was written when. Changes nothing, and reads every row: for checks, not
  // for operation. A fault of the log is fatal.
  [[nodiscard]] Digest state_digest();
  // Rolls over the budgets whose period has ended by now.
  void roll_periods();

  // Durable on return; slices get what the batch granted them. After an error nothing may be acknowledged any more.
  Result<void> commit();
  // Like commit(), with all balances and roll-ups, so that a snapshot of the log taken now is of
  // one moment.
  Result<void> commit_rows();
  // Like commit_rows(), with all open reservations, so that the next start has nothing to replay.
  Result<void> finish();
  // After a commit: folds some of what roll-ups of hours are final (usage_fold.hpp), if any.
  Result<void> fold();

  [[nodiscard]] std::uint64_t next_index() const { return head_.next_index; }
  [[nodiscard]] std::uint64_t pending_entries() const { return head_.next_index - batch_first_; }
  [[nodiscard]] std::size_t pending_bytes() const { return records_.size(); }
  [[nodiscard]] std::int64_t time_ms() const { return head_.time_ms; }
  [[nodiscard]] std::uint64_t epoch() const { return head_.epoch; }
  [[nodiscard]] bool is_replica() const { return role_ == Role::replica; }
  [[nodiscard]] const Digest& head_hash() const { return head_.hash; }  // of the last entry
  [[nodiscard]] std::uint64_t in_doubt_settled() const { return in_doubt_settled_; }
  [[nodiscard]] const LedgerState& state() const { return state_; }
  // What lanes admit by, made anew: every budget, and the slices of the hard ones.
  [[nodiscard]] std::shared_ptr<const BudgetBook> make_budget_book();

 private:
  // The log with the batch that is being made.
  class PendingView final : public LedgerView {
   public:
    explicit PendingView(const LedgerWriter& writer) : writer_(writer) {}
    Result<bool> get(Table table, std::string_view key, std::string& value) const override;
    Result<void> scan(
        Table table, std::string_view from, std::string_view to,
        const std::function<bool(std::string_view, std::string_view)>& visit) const override;
    Result<void> read(std::uint64_t from,
                      const std::function<bool(const LogRecord&)>& visit) const override;

   private:
    const LedgerWriter& writer_;
  };

  enum class Role : std::uint8_t { alone, replica, owner };

  LedgerWriter(Log& log, const Clock& clock, const HeadRow& head, Role role);
  static Result<std::unique_ptr<LedgerWriter>> recovered(Log& log, const Clock& clock, Role role);
  Result<void> compare_known(std::uint64_t first_index, std::string_view records) const;
  Result<void> follow(const LogRecord& record);
  Result<void> check_head() const;
  Result<void> recover();
  Result<void> write_batch(bool rows, bool open);
  proto::EntryHeader next_header();
  template <class Operation>
  Result<Applied> append(const Operation& operation);
  Result<bool> take_back_short(const Applied& applied);
  Result<void> deal();
  template <class Operation>
  void append_frame(const proto::EntryHeader& header, const Operation& operation,
                    const Applied& applied);

  Log& log_;
  const Clock& clock_;
  Role role_;
  HeadRow head_;  // as it will be when the batch is durable; its time is the batch's, once it has one
  std::uint64_t batch_first_;
  bool batch_timed_ = false;
  PendingView view_;
  LedgerState state_;
  SliceDealer dealer_;
  Calendar calendar_;
  std::vector<proto::SliceGranted> grants_;  // of the batch that is being made
  proto::LedgerEncoder encoder_;
  std::string records_;
  std::string row_;  // scratch
  std::uint64_t in_doubt_settled_ = 0;
  std::int64_t entry_time_ms_;     // of the last entry
  std::uint32_t rows_hour_ = 0;    // of the last written roll-ups: earlier hours are final
  std::uint32_t folded_hour_ = 0;  // all before it is folded
};

// The head row; one of an empty ledger when there is none. Error: corrupt.
Result<HeadRow> load_head(const LedgerView& view);
// Brings a fresh state over `view` to the head: open reservations, and what balances and roll-ups
// do not hold yet.
Result<void> replay_tail(const LedgerView& view, const HeadRow& head, LedgerState& state);

// The hash of an entry: SHA-256(prev_hash || frame).
Digest entry_hash(const Digest& prev_hash, std::string_view frame);

}  // namespace outlast::storage
