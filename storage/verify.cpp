// verify_ledger(): replays the whole log through the state machine over empty tables, and compares
// what comes out with what is stored.
#include <algorithm>
#include <map>
#include <optional>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_state.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

constexpr std::uint64_t collect_entries = 1'024;

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
  // Takes rows over; dedup rows are compared at once.
  Result<void> take(const TableChanges& changes, std::int64_t keep_ids_from_ms);
  // What differs between a table here and the stored one between two keys; empty when nothing does.
  Result<std::string> difference(Table table, std::string_view from, std::string_view to,
                                 std::string_view what) const;
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

Result<void> RecomputedTables::take(const TableChanges& changes, std::int64_t keep_ids_from_ms) {
  std::optional<Error> error;
  changes.for_each([&](Table table, std::string_view key, std::string_view value) {
    if (table != Table::dedup) {
      auto& rows = rows_[static_cast<std::size_t>(table)];
      if (value.data() == nullptr) rows.erase(std::string(key));
      else rows[std::string(key)] = value;
      return;
    }
    RequestId id;
    std::copy_n(reinterpret_cast<const std::uint8_t*>(key.data()), id.bytes.size(),
                id.bytes.begin());
    std::string stored;
    const Result<bool> found = stored_.get(table, key, stored);
    if (!found) error = found.error();
    else if (*found ? stored != value : id.unix_ms() >= keep_ids_from_ms) {
      problem_ =
          "the dedup row of request " + id.to_string() + (*found ? " differs" : " is missing");
    }
  });
  if (error) return fail(std::move(*error));
  return {};
}

Result<std::string> RecomputedTables::difference(Table table, std::string_view from,
                                                 std::string_view to, std::string_view what) const {
  const auto& all = rows(table);
  auto at = all.lower_bound(from);
  const auto end = to.empty() ? all.end() : all.lower_bound(to);
  std::string problem;
  const Result<void> scanned =
      stored_.scan(table, from, to, [&](std::string_view key, std::string_view value) {
        if (at != end && at->first == key && at->second == value) {
          ++at;
          return true;
        }
        problem = std::string("a stored ") + std::string(what) + " does not follow from the log";
        return false;
      });
  if (!scanned) return fail(scanned.error());
  if (problem.empty() && at != end)
    problem = std::string("a ") + std::string(what) + " that follows from the log is not stored";
  return problem;
}

class Verifier {
 public:
  explicit Verifier(const LedgerView& view) : view_(view), tables_(view), state_(tables_) {}
  Result<VerifyReport> run();

 private:
  bool bad(std::uint64_t index, std::string problem);
  bool visit(const LogRecord& record);
  Result<void> collect();
  Result<void> compare(Table table, char prefix, std::string_view what);
  Result<void> compare_rows();
  Result<void> compare_tables();
  Result<void> compare_open_rows();
  void sum_balances();

  const LedgerView& view_;
  RecomputedTables tables_;
  LedgerState state_;
  HeadRow head_;
  VerifyReport report_;
  std::uint64_t epoch_ = 0;
  std::uint64_t uncollected_ = 0;
  std::int64_t time_ms_ = 0;
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
  const Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
  if (!entry) return bad(record.index, entry.error().message);
  const proto::EntryHeader& header = entry->header;
  if (header.index != record.index)
    return bad(record.index, "says that it is entry " + std::to_string(header.index));
  if (header.epoch < epoch_ || header.epoch == 0)
    return bad(record.index, "goes back to an earlier epoch");
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
  // Before rows are compared: that they do not follow from a changed last entry names no entry.
  if (report_.entries == head_.next_index && report_.head_hash != head_.hash)
    return bad(record.index, "its bytes do not give the hash that the head row carries");
  Result<void> done;
  if (report_.entries == head_.rows_from) done = compare_rows();
  else if (++uncollected_ >= collect_entries) done = collect();
  if (!done) error_ = std::move(done.error());
  if (!tables_.problem().empty())
    return bad(record.index, "at or shortly before it: " + tables_.problem());
  return !error_ && report_.problem.empty();
}

Result<void> Verifier::collect() {
  uncollected_ = 0;
  const Result<void> taken =
      tables_.take(state_.collect(true, false), head_.time_ms - dedup_age_ms_max);
  state_.committed();
  return taken;
}

Result<void> Verifier::compare_open_rows() {
  const std::string end(1, open_prefix + 1);
  return view_.scan(Table::meta, std::string(1, open_prefix), end,
                    [this](std::string_view key, std::string_view value) {
                      OpenRow row;
                      if (decode(key, value, row) && state_.is_open(row.reservation.request_id))
                        return true;
                      report_.problem = "a stored open reservation is not open by the log";
                      return false;
                    });
}

Result<void> Verifier::compare(Table table, char prefix, std::string_view what) {
  if (!report_.problem.empty()) return {};
  const std::string from = prefix == 0 ? std::string() : std::string(1, prefix);
  const std::string to =
      prefix == 0 ? std::string() : std::string(1, static_cast<char>(prefix + 1));
  Result<std::string> difference = tables_.difference(table, from, to, what);
  if (!difference) return fail(difference.error());
  report_.problem = std::move(*difference);
  return {};
}

// Balances and roll-ups are stored as of the head's rows_from.
Result<void> Verifier::compare_rows() {
  if (const Result<void> collected = collect(); !collected) return collected;
  if (const Result<void> compared = compare(Table::rollup, 0, "roll-up"); !compared)
    return compared;
  return compare(Table::meta, balance_prefix, "balance");
}

Result<void> Verifier::compare_tables() {
  Result<void> compared = compare(Table::meta, key_prefix, "virtual key");
  if (compared) compared = compare(Table::meta, prices_prefix, "price book");
  if (compared && report_.problem.empty()) compared = compare_open_rows();
  return compared;
}

// Zero sum: what tenants used is what providers are owed; what tenants hold is what is open.
void Verifier::sum_balances() {
  PicoUsd held;
  PicoUsd owed;
  for (const auto& [key, value] : tables_.rows(Table::meta)) {
    BalanceRow row;
    if (key.size() < 2 || key[0] != balance_prefix || !decode(value, row)) continue;
    if (key[1] == 'p') {
      owed += row.used;
      continue;
    }
    held += row.held;
    report_.charged += row.used;
    report_.overrun += row.overrun;
  }
  report_.open_reservations = state_.open_count();
  if (!report_.problem.empty()) return;
  if (owed != report_.charged) report_.problem = "what tenants used is not what providers are owed";
  else if (held != state_.open_amount())
    report_.problem = "what tenants hold is not what is reserved";
}

Result<VerifyReport> Verifier::run() {
  std::string value;
  const Result<bool> found = view_.get(Table::meta, head_key, value);
  if (!found) return fail(found.error());
  if (*found && !decode(value, head_)) {
    report_.problem = "the head row cannot be read";
    return report_;
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
