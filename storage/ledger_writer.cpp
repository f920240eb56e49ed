#include "storage/ledger_writer.hpp"

#include <algorithm>
#include <optional>

#include "core/check.hpp"
#include "storage/usage_fold.hpp"

namespace outlast::storage {
namespace {

Failure corrupt(std::string what) {
  return fail(LedgerError::corrupt,
              std::move(what) + "; see `outlast ledger verify`, or restore the data from a copy");
}

template <class Row>
Result<void> restore_rows(const LedgerView& view, char prefix, const char* what,
                          LedgerState& state) {
  bool readable = true;
  const Result<void> scanned =
      view.scan(Table::meta, std::string(1, prefix), std::string(1, static_cast<char>(prefix + 1)),
                [&readable, &state](std::string_view key, std::string_view value) {
                  Row row;
                  readable = decode(key, value, row);
                  if constexpr (std::is_same_v<Row, SliceRow> || std::is_same_v<Row, AllotmentRow>) {
                    readable = readable && state.restore(row);
                  } else if (readable) {
                    state.restore(std::move(row));
                  }
                  return readable;
                });
  if (!scanned) return scanned;
  return readable ? Result<void>() : corrupt(std::string("a row of ") + what + " cannot be read");
}

}  // namespace

Result<HeadRow> load_head(const LedgerView& view) {
  HeadRow head;
  std::string value;
  const Result<bool> found = view.get(Table::meta, head_key, value);
  if (!found) return fail(found.error());
  if (*found && !decode(value, head)) {
    return corrupt("the ledger's head row cannot be read, or a later version wrote it");
  }
  return head;
}

Result<void> replay_tail(const LedgerView& view, const HeadRow& head, LedgerState& state) {
  // Slices and allotments after what they are of; open reservations last: they hold of the others.
  Result<void> restored =
      restore_rows<BudgetStatus>(view, budget_prefix, "a budget", state);
  if (restored) restored = restore_rows<SliceRow>(view, slice_prefix, "a slice", state);
  if (restored)
    restored = restore_rows<EndedHolderRow>(view, ended_holder_prefix, "an ended holder", state);
  if (restored) {
    restored = restore_rows<CommitmentStatus>(view, commitment_prefix, "a commitment", state);
  }
  if (restored)
    restored = restore_rows<AllotmentRow>(view, allotment_prefix, "an allotment", state);
  if (restored) restored = restore_rows<OpenRow>(view, open_prefix, "an open reservation", state);
  if (!restored) return restored;
  if (head.replay_from == head.next_index) return {};
  std::optional<Error> error;
  const Result<void> read =
      view.read(head.replay_from, [&head, &state, &error](const LogRecord& record) {
        const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
        if (!entry) {
          error = corrupt("entry " + std::to_string(record.index) +
                          " cannot be read: " + entry.error().message)
                      .value();
          return false;
        }
        Result<void> replayed = state.replay(*entry, record.index < head.rows_from);
        if (!replayed) error = std::move(replayed.error());
        return !error;
      });
  if (!read) return read;
  if (error) return fail(std::move(*error));
  return {};
}

Digest entry_hash(const Digest& prev_hash, std::string_view frame) {
  return Sha256().update(std::as_bytes(std::span(prev_hash))).update(frame).finish();
}

Result<bool> LedgerWriter::PendingView::get(Table table, std::string_view key,
                                            std::string& value) const {
  return writer_.log_.get(table, key, value);
}

Result<void> LedgerWriter::PendingView::scan(
    Table table, std::string_view from, std::string_view to,
    const std::function<bool(std::string_view, std::string_view)>& visit) const {
  return writer_.log_.scan(table, from, to, visit);
}

Result<void> LedgerWriter::PendingView::read(
    std::uint64_t from, const std::function<bool(const LogRecord&)>& visit) const {
  if (from < writer_.batch_first_) return writer_.log_.read(from, visit);
  return parse_batch(
      {writer_.batch_first_, writer_.records_},
      [from, &visit](const LogRecord& record) { return record.index < from || visit(record); });
}

LedgerWriter::LedgerWriter(Log& log, const Clock& clock, const HeadRow& head, Role role)
    : log_(log),
      clock_(clock),
      role_(role),
      head_(head),
      batch_first_(head.next_index),
      view_(*this),
      state_(view_, head.max_ended_id),
      entry_time_ms_(head.time_ms) {}

Result<std::unique_ptr<LedgerWriter>> LedgerWriter::recovered(Log& log, const Clock& clock,
                                                              Role role) {
  const Result<HeadRow> head = load_head(log);
  if (!head) return fail(head.error());
  std::unique_ptr<LedgerWriter> writer(new LedgerWriter(log, clock, *head, role));
  if (const Result<void> good = writer->check_head(); !good) return fail(good.error());
  if (const Result<void> recovered = writer->recover(); !recovered) return fail(recovered.error());
  return writer;
}

Result<std::unique_ptr<LedgerWriter>> LedgerWriter::open(Log& log, const Clock& clock,
                                                         const Incarnation& incarnation,
                                                         std::string software) {
  Result<std::unique_ptr<LedgerWriter>> opened = recovered(log, clock, Role::alone);
  if (!opened) return opened;
  const std::unique_ptr<LedgerWriter>& writer = *opened;
  const std::vector<Settlement> in_doubt = writer->state_.in_doubt();
  Result<Applied> started =
      writer->add(proto::IncarnationStarted{incarnation, std::move(software)});
  if (!started) return fail(started.error());
  writer->roll_periods();
  for (const Settlement& settlement : in_doubt) {
    const Result<Applied> settled = writer->add(settlement);
    if (!settled) return fail(settled.error());
    check(settled->outcome == Outcome::applied, "a reservation in doubt can be settled");
    if (writer->pending_entries() < recovery_batch_entries) continue;
    if (const Result<void> committed = writer->commit(); !committed) return fail(committed.error());
  }
  if (const Result<void> committed = writer->finish(); !committed) return fail(committed.error());
  writer->in_doubt_settled_ = in_doubt.size();
  return opened;
}

// The log must end exactly where the head row says, with the entry that it names.
Result<void> LedgerWriter::check_head() const {
  const std::uint64_t next = head_.next_index;
  Digest last{};
  std::uint64_t end = next == 0 ? 0 : next - 1;
  const Result<void> read = log_.read(end, [&last, &end](const LogRecord& record) {
    last = entry_hash(record.prev_hash, record.frame);
    end = record.index + 1;
    return true;
  });
  if (!read) return fail(read.error());
  if (end != next) {
    return corrupt("the log ends before entry " + std::to_string(end) +
                   ", the head row before entry " + std::to_string(next));
  }
  if (last != head_.hash)
    return corrupt("entry " + std::to_string(next - 1) + " does not have the hash of the head row");
  return {};
}

Result<void> LedgerWriter::recover() {
  for (const StandingTable& table : standing_tables) {
    bool readable = true;
    const Result<void> scanned =
        log_.scan(Table::meta, std::string(1, table.prefix), std::string(1, table.prefix + 1),
                  [this, &readable](std::string_view key, std::string_view value) {
                    return readable = state_.restore_standing(key, value);
                  });
    if (!scanned) return scanned;
    if (!readable) return corrupt("a row of a " + std::string(table.row_name) + " cannot be read");
  }
  return replay_tail(log_, head_, state_);
}

proto::EntryHeader LedgerWriter::next_header() {
  if (!batch_timed_) {
    batch_timed_ = true;
    head_.time_ms = std::max(head_.time_ms, clock_.wall_ms());
  }
  return {head_.epoch, head_.next_index, head_.time_ms};
}

template <class Operation>
void LedgerWriter::append_frame(const proto::EntryHeader& header, const Operation& operation,
                                const Applied& applied) {
  const std::size_t start = begin_record(records_, head_.hash);
  if constexpr (std::is_same_v<Operation, Settlement> ||
                std::is_same_v<Operation, VoidReservation>) {
    encoder_.append(records_, header, operation, applied.overrun);
  } else {
    encoder_.append(records_, header, operation);
  }
  finish_record(records_, start);
  head_.hash = entry_hash(head_.hash, std::string_view(records_).substr(start));
  ++head_.next_index;
  entry_time_ms_ = header.time_ms;
}

template <class Operation>
Result<Applied> LedgerWriter::append(const Operation& operation) {
  const proto::EntryHeader header = next_header();
  Result<Applied> applied = state_.apply(header, operation);
  if (applied && applied->outcome == Outcome::applied) append_frame(header, operation, *applied);
  return applied;
}

template <class Operation>
Result<Applied> LedgerWriter::add(const Operation& operation) {
  if (role_ == Role::replica)
    return fail(LedgerError::fenced, "only the owner of a ledger's shard adds to it");
  constexpr bool begins = std::is_same_v<Operation, proto::IncarnationStarted> ||
                          std::is_same_v<Operation, proto::OwnerStarted>;
  if (!batch_timed_ && !begins) roll_periods();
  if constexpr (std::is_same_v<Operation, proto::BudgetSet>) {
    const Budget& budget = operation.budget;
    const Result<Period> period =
        calendar_.period_at(budget.period, budget.time_zone, head_.time_ms);
    if (!period) return Applied{Outcome::refused, LedgerError::invalid, {}};
    proto::BudgetSet whole = operation;
    whole.period_start_ms = period->start_ms;
    whole.period_end_ms = period->end_ms;
    const Result<Applied> set = append(whole);
    if (set && set->outcome == Outcome::applied && budget.soft) dealer_.forget(budget.id);
    return set;
  }
  Result<Applied> applied = append(operation);
  if constexpr (std::is_same_v<Operation, proto::BudgetRemoved>) {
    if (applied && applied->outcome == Outcome::applied) dealer_.forget(operation.id);
  }
  if constexpr (std::is_same_v<Operation, Reservation> ||
                std::is_same_v<Operation, ReservationExtension>) {
    for (int tries = 0; applied && applied->outcome == Outcome::refused; ++tries) {
      if (tries == take_back_tries_max) break;
      const Result<bool> more = take_back_short(*applied);
      if (!more) return fail(more.error());
      if (!*more) break;
      applied = append(operation);
    }
  }
  return applied;
}

// Whether the budget that refused an operation got something back from its slice.
Result<bool> LedgerWriter::take_back_short(const Applied& applied) {
  if (applied.error != LedgerError::budget_exhausted || role_ != Role::alone) return false;
  const BudgetAccount& budget = *state_.short_budget();
  const PicoUsd returned = dealer_.take_back(budget, budget.own.left);
  if (returned.value == 0) return false;
  const Result<Applied> done = append(proto::SliceReturned{budget.status.budget.id, returned});
  if (!done) return fail(done.error());
  check(done->outcome == Outcome::applied, "what a slice holds can be returned");
  return true;
}

void LedgerWriter::roll_periods() {
  if (role_ == Role::replica) return;  // the owner says when
  const std::int64_t now_ms = next_header().time_ms;
  if (state_.budgets().next_end_ms() > now_ms) return;
  for (const BudgetAccount* account : state_.budgets().ended_by(now_ms)) {
    const Budget& budget = account->status.budget;
    Result<Period> period = calendar_.period_at(budget.period, budget.time_zone, now_ms);
    // A zone that the data base has lost since: better a budget that resets by UTC than never.
    if (!period) period = calendar_.period_at(budget.period, "UTC", now_ms);
    check(period.has_value(), "UTC has periods");
    const std::int64_t start_ms = std::max(period->start_ms, account->status.period_end_ms);
    const std::string id = budget.id;
    const Result<Applied> rolled =
        append(proto::BudgetRolled{id, start_ms, std::max(period->end_ms, start_ms + 1)});
    check(rolled && rolled->outcome == Outcome::applied, "a period that has ended rolls over", id);
  }
}

// Grants and surpluses of the slices whose budgets the batch has touched.
Result<void> LedgerWriter::deal() {
  if (role_ != Role::alone) {
    state_.clear_touched();
    return {};
  }
  if (state_.budgets().touched().empty()) return {};
  const std::vector<BudgetAccount*> touched = state_.budgets().touched();
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (BudgetAccount* account : touched) {
    const std::string& id = account->status.budget.id;
    Result<Applied> done;
    if (const PicoUsd surplus = dealer_.surplus_of(*account); surplus.value > 0) {
      done = append(proto::SliceReturned{id, surplus});
    } else if (const PicoUsd grant = dealer_.grant_for(*account, now_ns); grant.value > 0) {
      grants_.push_back({id, grant});
      done = append(grants_.back());
    }
    if (!done) return fail(done.error());
    check(done->outcome == Outcome::applied, "a slice is dealt out of what is free", id);
  }
  state_.clear_touched();
  return {};
}

std::shared_ptr<const BudgetBook> LedgerWriter::make_budget_book() {
  auto book = std::make_shared<BudgetBook>();
  for (const auto& [id, account] : state_.budgets().all()) {
    const Budget& budget = account->status.budget;
    book->by_scope.add(budget.scope, {budget, dealer_.slice_of(*account)});
  }
  return book;
}

Result<Applied> LedgerWriter::add(const MeteringOperation& operation) {
  return std::visit([this](const auto& concrete) { return add(concrete); }, operation);
}

template Result<Applied> LedgerWriter::add(const proto::IncarnationStarted&);
template Result<Applied> LedgerWriter::add(const Reservation&);
template Result<Applied> LedgerWriter::add(const AttemptLine&);
template Result<Applied> LedgerWriter::add(const Settlement&);
template Result<Applied> LedgerWriter::add(const VoidReservation&);
template Result<Applied> LedgerWriter::add(const VirtualKey&);
template Result<Applied> LedgerWriter::add(const proto::KeyRevoked&);
template Result<Applied> LedgerWriter::add(const proto::PricesRecorded&);
template Result<Applied> LedgerWriter::add(const proto::BudgetSet&);
template Result<Applied> LedgerWriter::add(const proto::BudgetRemoved&);
template Result<Applied> LedgerWriter::add(const proto::BudgetRolled&);
template Result<Applied> LedgerWriter::add(const proto::SliceGranted&);
template Result<Applied> LedgerWriter::add(const proto::SliceReturned&);
template Result<Applied> LedgerWriter::add(const proto::CommitmentAdded&);
template Result<Applied> LedgerWriter::add(const proto::CommitmentEnded&);
template Result<Applied> LedgerWriter::add(const ReservationExtension&);
template Result<Applied> LedgerWriter::add(const BreakerTripped&);
template Result<Applied> LedgerWriter::add(const BreakerReset&);
template Result<Applied> LedgerWriter::add(const BreakerRuleChange&);
template Result<Applied> LedgerWriter::add(const proto::OwnerStarted&);
template Result<Applied> LedgerWriter::add(const proto::HolderEnded&);
template Result<Applied> LedgerWriter::add(const NodeEnrolled&);
template Result<Applied> LedgerWriter::add(const NodeChanged&);
template Result<Applied> LedgerWriter::add(const JoinTokenMade&);
template Result<Applied> LedgerWriter::add(const SettingSet&);
template Result<Applied> LedgerWriter::add(const proto::AllotmentGranted&);
template Result<Applied> LedgerWriter::add(const proto::AllotmentReturned&);

Result<void> LedgerWriter::commit() {
  if (pending_entries() == 0) {
    batch_timed_ = false;
    return {};
  }
  const bool open = head_.next_index - head_.replay_from >=
                    std::max<std::uint64_t>(open_entries, state_.open_count());
  return write_batch(open || head_.next_index - head_.rows_from >= rows_entries, open);
}

Result<void> LedgerWriter::commit_rows() {
  if (head_.rows_from == head_.next_index) {
    batch_timed_ = false;
    return {};
  }
  return write_batch(true, false);
}

Result<void> LedgerWriter::finish() {
  if (head_.replay_from == head_.next_index) {
    batch_timed_ = false;
    return {};
  }
  return write_batch(true, true);
}

Result<void> LedgerWriter::write_batch(bool rows, bool open) {
  if (const Result<void> dealt = deal(); !dealt) return dealt;
  batch_timed_ = false;
  if (rows) head_.rows_from = head_.next_index;
  if (open) head_.replay_from = head_.next_index;
  head_.max_ended_id = state_.max_ended_id();
  TableChanges& changes = state_.collect(rows, open);
  // Not a later time that no entry has: another owner's clock may be behind this one's.
  HeadRow head = head_;
  head.time_ms = entry_time_ms_;
  row_.clear();
  encode(row_, head);
  changes.put(Table::meta, head_key, row_);
  const Result<void> appended = log_.append({batch_first_, records_}, changes);
  if (!appended) return appended;
  state_.committed();
  records_.clear();
  batch_first_ = head_.next_index;
  // Entries to come are not of earlier hours than the last one, whoever writes them.
  if (rows)
    rows_hour_ = static_cast<std::uint32_t>(std::max<std::int64_t>(entry_time_ms_, 0) / hour_ms);
  for (const proto::SliceGranted& grant : grants_) dealer_.granted(grant.budget, grant.amount);
  grants_.clear();
  return {};
}

Result<void> LedgerWriter::fold() {
  if (folded_hour_ >= rows_hour_ || pending_entries() > 0) return {};
  TableChanges changes;
  const Result<std::size_t> rows = fold_rollups(log_, rows_hour_, fold_rows, changes);
  if (!rows) return fail(rows.error());
  if (*rows < fold_rows) folded_hour_ = rows_hour_;
  return changes.empty() ? Result<void>() : log_.append({head_.next_index, {}}, changes);
}

}  // namespace outlast::storage
