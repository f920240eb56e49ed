// LedgerWriter::state_digest(): one hash of everything that follows from a ledger's entries.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/check.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/usage_rows.hpp"

namespace outlast::storage {
namespace {

// Rows in memory, over those of the view; none: erased.
using NewerRows = std::map<std::string, std::optional<std::string>, std::less<>>;

// The rows of a table that begin with a prefix and follow from the entries alone, in order of keys.
class RowsDigest {
 public:
  RowsDigest(Table table, std::string_view prefix, const NewerRows& newer,
             std::int64_t oldest_id_ms, Sha256& hash)
      : table_(table),
        prefix_(prefix),
        newer_(newer),
        at_(newer.lower_bound(prefix)),
        oldest_id_ms_(oldest_id_ms),
        hash_(hash) {}

  void stored(std::string_view key, std::string_view value) {
    for (; has_newer() && at_->first < key; ++at_) add_newer();
    const bool replaced = has_newer() && at_->first == key;
    if (!replaced) add(key, value);
  }
  void end() {
    for (; has_newer(); ++at_) add_newer();
  }

 private:
  [[nodiscard]] bool has_newer() const {
    return at_ != newer_.end() && at_->first.starts_with(prefix_);
  }
  void add_newer() {
    if (at_->second) add(at_->first, *at_->second);
  }
  // Older ones are dropped when files are compacted.
  [[nodiscard]] bool is_recent(std::string_view key) const {
    RequestId id;
    if (key.size() != id.bytes.size()) return true;
    std::copy(key.begin(), key.end(), id.bytes.begin());
    return id.unix_ms() >= oldest_id_ms_;
  }
  [[nodiscard]] bool is_recent_key(std::string_view value) const {
    IdempotencyRow row;
    return !decode(value, row) || row.request_id.unix_ms() >= oldest_id_ms_;
  }
  void add(std::string_view key, std::string_view value) {
    if (table_ == Table::dedup && !is_recent(key)) return;
    if (table_ == Table::idempotency && !is_recent_key(value)) return;
    const std::uint64_t sizes[] = {static_cast<std::uint64_t>(table_), key.size(), value.size()};
    hash_.update(std::as_bytes(std::span(sizes))).update(key).update(value);
  }

  const Table table_;
  const std::string_view prefix_;
  const NewerRows& newer_;
  NewerRows::const_iterator at_;
  const std::int64_t oldest_id_ms_;
  Sha256& hash_;
};

struct Part {
  Table table;
  std::string prefix;
  bool from_memory = false;  // its rows are as of a checkpoint, which each replica makes when it likes
};

// Not the head and the segments, which are a replica's own, and not roll-ups of days and months,
// which are folded in time.
std::vector<Part> parts() {
  std::vector<Part> all;
  for (const char prefix :
       {budget_prefix, slice_prefix, ended_holder_prefix, commitment_prefix, allotment_prefix, open_prefix})
    all.push_back({Table::meta, std::string(1, prefix), true});
  for (const char prefix : {balance_prefix, prices_prefix})
    all.push_back({Table::meta, std::string(1, prefix)});
  for (const StandingTable& table : standing_tables)
    all.push_back({Table::meta, std::string(1, table.prefix)});
  for (const RollupKind kind : rollup_kinds) {
    const RollupPlace place = rollup_place(kind, RollupPeriod::hour);
    all.push_back({place.table, std::string(place.prefix)});
  }
  all.push_back({Table::dedup, {}});
  all.push_back({Table::idempotency, {}});
  return all;
}

}  // namespace

Digest LedgerWriter::state_digest() {
  TableChanges changes;
  state_.copy_rows(changes);
  std::array<NewerRows, table_count> newer;
  changes.for_each([&newer](Table table, std::string_view key, std::string_view value) {
    auto& row = newer[static_cast<std::size_t>(table)][std::string(key)];
    if (value.data() == nullptr) row.reset();
    else row = value;
  });
  Sha256 hash;
  hash.update(std::as_bytes(std::span(&head_.next_index, 1)))
      .update(std::as_bytes(std::span(head_.hash)));
  for (const Part& part : parts()) {
    RowsDigest rows(part.table, part.prefix, newer[static_cast<std::size_t>(part.table)],
                    entry_time_ms_ - dedup_age_ms_max, hash);
    std::string end = part.prefix;
    if (!end.empty()) ++end.back();
    Result<void> scanned;
    if (!part.from_memory) {
      scanned = log_.scan(part.table, part.prefix, end,
                          [&rows](std::string_view key, std::string_view value) {
                            rows.stored(key, value);
                            return true;
                          });
    }
    check(scanned.has_value(), "the rows of a ledger can be read for their digest");
    rows.end();
  }
  return hash.finish();
}

}  // namespace outlast::storage
