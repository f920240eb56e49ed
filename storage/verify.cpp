// verify_ledger(): replays the whole log through the state machine over empty tables, and compares
// what comes out with what is stored.
#include <algorithm>
#include <map>
#include <optional>

#include "core/mul_div.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_state.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/recomputed_tables.hpp"
#include "storage/rows.hpp"
#include "storage/usage_fold.hpp"

namespace outlast::storage {
namespace {

constexpr std::uint64_t collect_entries = 1'024;

class Verifier {
 public:
  explicit Verifier(const LedgerView& view) : view_(view), tables_(view), state_(tables_) {}
  Result<VerifyReport> run();

 private:
  bool bad(std::uint64_t index, std::string problem);
  bool visit(const LogRecord& record);
  void check_money(const proto::LedgerEntry& entry);
  Result<void> collect(bool open = false);
  Result<void> compare(Table table, char prefix, std::string_view what);
  Result<void> compare(Table table, std::string_view from, std::string_view to,
                       std::string_view what);
  Result<void> compare_folded();
  Result<void> compare_rows();
  Result<void> compare_tables();
  Result<void> compare_money();
  void sum_balances();
  void sum_money();
  void check_slices(const std::string& id, const BudgetAccount& account);
  void check_allotments(const std::string& what, const Allotments& allotments, __int128 allotted);

  const LedgerView& view_;
  RecomputedTables tables_;
  LedgerState state_;
  HeadRow head_;
  VerifyReport report_;
  std::uint64_t epoch_ = 0;
  std::uint64_t uncollected_ = 0;
  std::int64_t time_ms_ = 0;
  FundingChain funded_;  // the sum of all chains
  // Budgets that somebody took below what was spent already, and what that is: it may only shrink.
  std::map<std::string, PicoUsd> exceeded_;
  std::optional<Error> error_;
};

bool Verifier::bad(std::uint64_t index, std::string problem) {
  if (!report_.problem.empty()) return false;
  report_.first_bad_index = index;
  report_.problem = "entry " + std::to_string(index) + ": " + std::move(problem);
  return false;
}

bool Verifier::visit(const LogRecord& record) {
  if (record.index >= head_.next_index) return bad(record.index, "lies beyond the ledger's head");
  if (record.prev_hash != report_.head_hash) {
    // The chain names the entry before: its bytes no longer give the hash that this one carries.
    const std::uint64_t index = record.index == 0 ? 0 : record.index - 1;
    return bad(index, record.index == 0 ? "does not begin the chain with zeros"
                                        : "its bytes do not give the hash that entry " +
                                              std::to_string(record.index) + " carries");
  }
  // The entry before is good: the chain says so.
  if (report_.entries == head_.rows_from && report_.entries > 0) {
    if (const Result<void> compared = compare_rows(); !compared) error_ = compared.error();
    if (error_ || !report_.problem.empty()) return false;
  }
  const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
  if (!entry) return bad(record.index, entry.error().message);
  const proto::EntryHeader& header = entry->header;
  if (header.index != record.index)
    return bad(record.index, "says that it is entry " + std::to_string(header.index));
  if (header.epoch < epoch_ || header.epoch == 0)
    return bad(record.index, "goes back to an earlier epoch");
  if (header.epoch != epoch_ && epoch_ != 0 &&
      !std::holds_alternative<proto::OwnerStarted>(entry->body)) {
    return bad(record.index, "is of another epoch, which no owner began");
  }
  if (header.time_ms < time_ms_)
    return bad(record.index, "is stamped earlier than the entry before");
  tables_.at_entry(record.index);
  const Result<Applied> applied = state_.apply(*entry);
  if (!applied) {
    error_ = applied.error();
    return false;
  }
  if (applied->outcome == Outcome::duplicate)
    return bad(record.index, "repeats an operation that stands already");
  if (applied->outcome == Outcome::refused) {
    return bad(record.index, "is not allowed after the entries before it (ledger error " +
                                 std::to_string(static_cast<int>(applied->error)) + ")");
  }
  epoch_ = header.epoch;
  time_ms_ = header.time_ms;
  report_.head_hash = entry_hash(record.prev_hash, record.frame);
  ++report_.entries;
  check_money(*entry);
  if (!report_.problem.empty()) return false;
  Result<void> done;
  if (report_.entries == head_.replay_from) done = compare_money();
  if (!done) {
    error_ = std::move(done.error());
    return false;
  }
  if (++uncollected_ >= collect_entries) done = collect();
  if (!done) error_ = std::move(done.error());
  if (!tables_.problem().empty())
    return bad(record.index, "at or shortly before it: " + tables_.problem());
  return !error_ && report_.problem.empty();
}

// Every chain sums to zero, and no hard budget grows beyond its part.
void Verifier::check_money(const proto::LedgerEntry& entry) {
  if (const std::optional<FundingChain> chain = state_.take_chain()) {
    if (!chain->balanced()) bad(entry.header.index, "its chain does not sum to zero");
    funded_.cost += chain->cost;
    funded_.on_demand += chain->on_demand;
    funded_.amortised += chain->amortised;
    funded_.savings += chain->savings;
  }
  for (const BudgetAccount* account : state_.budgets().touched()) {
    const BudgetStatus& status = account->status;
    const Budget& budget = status.budget;
    const PicoUsd spent = status.used + status.held + status.sliced;
    if (status.used.value < 0 || status.held.value < 0 || account->own.left.value < 0)
      bad(entry.header.index, "leaves less than nothing in an account of budget " + budget.id);
    if (budget.soft || spent <= status.part()) {
      if (!exceeded_.empty()) exceeded_.erase(budget.id);
      continue;
    }
    const auto before = exceeded_.find(budget.id);
    // A person may lower the amount; and a budget made anew voids what was allotted of the one before.
    const bool lowered = std::holds_alternative<proto::BudgetSet>(entry.body) ||
                         (status.away && std::holds_alternative<proto::AllotmentGranted>(entry.body));
    if (!lowered && (before == exceeded_.end() || spent > before->second))
      bad(entry.header.index, "takes budget " + budget.id + " beyond its part");
    exceeded_[budget.id] = spent;
  }
  state_.clear_touched();
}

Result<void> Verifier::collect(bool open) {
  uncollected_ = 0;
  const Result<void> taken =
      tables_.take(state_.collect(true, open), head_.time_ms - dedup_age_ms_max);
  state_.committed();
  return taken;
}

Result<void> Verifier::compare(Table table, char prefix, std::string_view what) {
  if (!report_.problem.empty()) return {};
  const std::string from = prefix == 0 ? std::string() : std::string(1, prefix);
  const std::string to =
      prefix == 0 ? std::string() : std::string(1, static_cast<char>(prefix + 1));
  return compare(table, from, to, what);
}

Result<void> Verifier::compare(Table table, std::string_view from, std::string_view to,
                               std::string_view what) {
  if (!report_.problem.empty()) return {};
  Result<std::string> difference = tables_.difference(table, from, to, what);
  if (!difference) return fail(difference.error());
  report_.problem = std::move(*difference);
  return {};
}

// Budgets, slices, ended holders, commitments, allotments and open reservations are stored as of the head's
// replay_from.
Result<void> Verifier::compare_money() {
  Result<void> compared = collect(true);
  if (compared) compared = compare(Table::meta, budget_prefix, "budget");
  if (compared) compared = compare(Table::meta, slice_prefix, "slice");
  if (compared) compared = compare(Table::meta, ended_holder_prefix, "ended holder");
  if (compared) compared = compare(Table::meta, commitment_prefix, "commitment");
  if (compared) compared = compare(Table::meta, allotment_prefix, "allotment");
  if (compared) compared = compare(Table::meta, open_prefix, "open reservation");
  return compared;
}

// Balances and roll-ups are stored as of the head's rows_from.
Result<void> Verifier::compare_rows() {
  if (const Result<void> collected = collect(); !collected) return collected;
  if (const Result<void> compared = compare(Table::rollup, 0, "roll-up"); !compared)
    return compared;
  for (const RollupKind kind : {RollupKind::tag, RollupKind::session}) {
    const std::string from(rollup_place(kind, RollupPeriod::hour).prefix);
    const std::string to{from[0], static_cast<char>(from[1] + 1)};
    if (const Result<void> compared = compare(Table::usage, from, to, "roll-up"); !compared)
      return compared;
  }
  return compare(Table::meta, balance_prefix, "balance");
}

Result<void> Verifier::compare_tables() {
  Result<void> compared = compare(Table::meta, prices_prefix, "price book");
  for (const StandingTable& table : standing_tables) {
    if (compared) compared = compare(Table::meta, table.prefix, table.row_name);
  }
  if (compared && report_.problem.empty()) compared = compare_folded();
  // Those that a later request replaced are gone by now.
  if (report_.problem.empty() && !tables_.rows(Table::idempotency).empty())
    report_.problem = "the row of an idempotency key names an entry that did not use it";
  return compared;
}

// Rows of days and months follow from those of hours, which were compared with the log.
Result<void> Verifier::compare_folded() {
  Result<std::string> problem = check_folded(view_);
  if (!problem) return fail(problem.error());
  report_.problem = std::move(*problem);
  if (!report_.problem.empty()) return {};
  const Result<FoldedRollups> folded = load_folded(view_);
  if (!folded) return fail(folded.error());
  if (folded->hour > std::max<std::int64_t>(head_.time_ms, 0) / hour_ms)
    report_.problem = "roll-ups are folded of hours that are not over";
  return {};
}

// Zero sum: what tenants used is what providers are owed on demand and what commitments gave; what
// tenants hold is what is open.
void Verifier::sum_balances() {
  PicoUsd held;
  for (const auto& [key, value] : tables_.rows(Table::meta)) {
    BalanceRow row;
    if (key.size() < 2 || key[0] != balance_prefix || !decode(value, row)) continue;
    if (key[1] == 'p') {
      report_.payable += row.used;
      continue;
    }
    held += row.held;
    report_.charged += row.used;
    report_.overrun += row.overrun;
  }
  report_.open_reservations = state_.open_count();
  for (const auto& [id, account] : state_.commitments().all()) {
    report_.amortised += account->status.amortised;
    report_.savings += account->status.list_cost - account->status.amortised;
  }
  if (!report_.problem.empty()) return;
  if (report_.payable + report_.amortised + report_.savings != report_.charged) {
    report_.problem = "what tenants used is not what providers are owed and commitments gave";
  } else if (held != state_.open_amount()) {
    report_.problem = "what tenants hold is not what is reserved";
  } else {
    sum_money();
  }
}

// The sums of all chains are the balances; budgets and commitments hold what is open.
void Verifier::sum_money() {
  if (funded_.cost != report_.charged || funded_.on_demand != report_.payable ||
      funded_.amortised != report_.amortised || funded_.savings != report_.savings) {
    report_.problem = "the chains of all entries do not sum to the balances";
    return;
  }
  std::map<std::string, __int128> holds = state_.budget_holds();
  for (const auto& [id, account] : state_.budgets().all()) {
    if (account->status.held.value != holds[id])
      report_.problem = "budget " + id + " does not hold what is reserved";
    check_slices(id, *account);
    check_allotments("budget " + id, account->allotments, account->status.allotted.value);
  }
  holds = state_.commitment_holds();
  for (const auto& [id, account] : state_.commitments().all()) {
    const CommitmentStatus& status = account->status;
    const Commitment& commitment = status.commitment;
    if (status.held != holds[id])
      report_.problem = "commitment " + id + " does not hold what is reserved";
    if (status.used < 0 || status.used + status.held > status.part() ||
        status.amortised.value !=
            mul_div_floor(commitment.price.value, status.used, commitment.units)) {
      report_.problem = "commitment " + id + " gave more than it has, or at another price";
    }
    check_allotments("commitment " + id, account->allotments, status.allotted);
  }
}

// What is sliced of a budget is what all slices have; and no slice has more than it was granted.
void Verifier::check_slices(const std::string& id, const BudgetAccount& account) {
  PicoUsd sliced = account.own.left;
  for (const auto& [holder, slice] : account.slices) {
    sliced += slice.left;
    if (slice.left.value < 0 || slice.left + slice.returned > slice.granted)
      report_.problem = "a slice of budget " + id + " has more than it was granted, or less than nothing";
  }
  if (sliced != account.status.sliced)
    report_.problem = "what is sliced of budget " + id + " is not what its slices have";
}

// What is allotted is what all allotments have; and no more came back of one than was granted.
void Verifier::check_allotments(const std::string& what, const Allotments& allotments,
                                __int128 allotted) {
  __int128 out = 0;
  for (const auto& [shard, allotment] : allotments) {
    out += allotment.out();
    if (allotment.out() < 0)
      report_.problem = "more came back of an allotment of " + what + " than was granted";
  }
  if (out != (allotted < 0 ? -allotted : allotted))
    report_.problem = "what is allotted of " + what + " is not what its allotments have";
}

Result<VerifyReport> Verifier::run() {
  std::string value;
  const Result<bool> found = view_.get(Table::meta, head_key, value);
  if (!found) return fail(found.error());
  if (*found && !decode(value, head_)) {
    report_.problem = "the head row cannot be read";
    return report_;
  }
  if (head_.replay_from == 0) {
    if (const Result<void> compared = compare_money(); !compared) return fail(compared.error());
  }
  const Result<void> read =
      view_.read(0, [this](const LogRecord& record) { return visit(record); });
  if (!read) bad(report_.entries, read.error().message);  // what stands before it is good
  if (error_) return fail(std::move(*error_));
  if (report_.problem.empty()) {
    if (const Result<void> collected = collect(); !collected) return fail(collected.error());
    if (!tables_.problem().empty())
      bad(report_.entries - 1, "at or shortly before it: " + tables_.problem());
  }
  if (report_.problem.empty() && report_.entries != head_.next_index) {
    bad(report_.entries, "is missing: the head is at " + std::to_string(head_.next_index));
  }
  if (report_.problem.empty() && report_.head_hash != head_.hash) {
    bad(report_.entries - 1, "its bytes do not give the hash that the head row carries");
  }
  if (report_.problem.empty() && report_.entries == head_.rows_from) {
    if (const Result<void> compared = compare_rows(); !compared) return fail(compared.error());
  }
  if (report_.problem.empty()) {
    if (const Result<void> compared = compare_tables(); !compared) return fail(compared.error());
  }
  sum_balances();
  report_.ok = report_.problem.empty();
  return report_;
}

}  // namespace

Result<VerifyReport> verify_ledger(const LedgerView& view) { return Verifier(view).run(); }

}  // namespace outlast::storage
