#include "storage/ledger_queries.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>

#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"
#include "storage/rows.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::storage {
namespace {

std::string_view value_of(const RollupKey& key, UsageDimension dimension) {
  switch (dimension) {
    case UsageDimension::organisation: return key.organisation;
    case UsageDimension::team: return key.team;
    case UsageDimension::user: return key.user;
    case UsageDimension::key: return key.key_id;
    case UsageDimension::model:
    case UsageDimension::route: return key.route;
    case UsageDimension::model_served: return key.model;
    case UsageDimension::provider: return key.provider;
    case UsageDimension::deployment: return key.deployment;
    case UsageDimension::status:
      if (key.status == status_void) return "void";
      return key.status < std::size(attempt_status_names) ? attempt_status_names[key.status]
                                                          : "unknown";
  }
  return {};
}

std::uint32_t hour_of(std::int64_t ms) {
  const std::int64_t hour = std::max<std::int64_t>(ms, 0) / hour_ms;
  return static_cast<std::uint32_t>(
      std::min<std::int64_t>(hour, std::numeric_limits<std::uint32_t>::max()));
}

// The roll-ups that entries since the head's rows_from have changed, as they are now.
Result<std::map<std::string, std::string>> recent_rollups(const LedgerView& view) {
  std::map<std::string, std::string> rows;
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  if (head->rows_from == head->next_index) return rows;
  LedgerState state(view, head->max_ended_id);
  if (const Result<void> replayed = replay_tail(view, *head, state); !replayed)
    return fail(replayed.error());
  state.collect(true, false)
      .for_each([&rows](Table table, std::string_view key, std::string_view value) {
        if (table == Table::rollup) rows.insert_or_assign(std::string(key), std::string(value));
      });
  return rows;
}

}  // namespace

RequestId request_id_of(const proto::EntryBody& body) {
  if (const auto* reservation = std::get_if<Reservation>(&body)) return reservation->request_id;
  if (const auto* attempt = std::get_if<AttemptLine>(&body)) return attempt->request_id;
  if (const auto* settled = std::get_if<proto::Settled>(&body))
    return settled->settlement.attempt.request_id;
  if (const auto* voided = std::get_if<proto::Voided>(&body)) return voided->reservation.request_id;
  return {};
}

std::optional<UsageDimension> parse_usage_dimension(std::string_view name) {
  const auto* at =
      std::find(std::begin(usage_dimension_names), std::end(usage_dimension_names), name);
  if (at == std::end(usage_dimension_names)) return std::nullopt;
  return static_cast<UsageDimension>(at - std::begin(usage_dimension_names));
}

UsageTotals& UsageTotals::operator+=(const UsageTotals& other) {
  requests += other.requests;
  attempts += other.attempts;
  failed_attempts += other.failed_attempts;
  unpriced += other.unpriced;
  estimated += other.estimated;
  cost += other.cost;
  overrun += other.overrun;
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] += other.tokens[i];
  return *this;
}

Result<void> read_entries(const LedgerView& view, std::uint64_t from,
                          const std::function<bool(const StoredEntry&)>& visit) {
  std::optional<Error> error;
  const Result<void> read = view.read(from, [&visit, &error](const LogRecord& record) {
    Result<proto::LedgerEntry> entry = proto::decode_ledger_entry(record.frame);
    if (!entry) {
      error = fail(LedgerError::corrupt,
                   "entry " + std::to_string(record.index) + ": " + entry.error().message)
                  .value();
      return false;
    }
    return visit({entry->header, std::move(entry->body), record.prev_hash,
                  entry_hash(record.prev_hash, record.frame)});
  });
  if (!read) return read;
  if (error) return fail(std::move(*error));
  return {};
}

Result<UsageReport> usage_of(const LedgerView& view, const UsageQuery& query) {
  Result<std::map<std::string, std::string>> recent = recent_rollups(view);
  if (!recent) return fail(std::move(recent.error()));
  const std::string from =
      query.since_ms ? rollup_hour_key(hour_of(*query.since_ms)) : std::string();
  const std::string to =
      query.until_ms ? rollup_hour_key(hour_of(*query.until_ms - 1) + 1) : std::string();
  std::map<std::vector<std::string>, UsageTotals> rows;
  UsageReport report;
  report.by = query.by;
  bool readable = true;
  const auto add = [&](std::string_view key, std::string_view value) {
    RollupKey dimensions;
    UsageTotals totals;
    readable = decode(key, dimensions) && decode(value, totals);
    if (!readable) return false;
    std::vector<std::string> group;
    group.reserve(query.by.size());
    for (const UsageDimension dimension : query.by)
      group.emplace_back(value_of(dimensions, dimension));
    rows[std::move(group)] += totals;
    report.total += totals;
    return true;
  };
  const Result<void> scanned =
      view.scan(Table::rollup, from, to, [&](std::string_view key, std::string_view value) {
        return recent->contains(std::string(key)) || add(key, value);
      });
  if (!scanned) return fail(scanned.error());
  for (const auto& [key, value] : *recent) {
    if (readable && key >= from && (to.empty() || key < to)) add(key, value);
  }
  if (!readable)
    return fail(LedgerError::corrupt, "a roll-up row cannot be read; see `outlast ledger verify`");
  for (auto& [group, totals] : rows) report.rows.push_back({group, totals});
  return report;
}

Result<std::unique_ptr<LedgerReader>> LedgerReader::open(const std::string& path,
                                                         const std::string& data) {
  Result<std::unique_ptr<RocksLog>> log = RocksLog::open_read_only(path);
  if (!log) return fail(std::move(log.error()));
  return std::unique_ptr<LedgerReader>(new LedgerReader(std::move(*log), data));
}

Result<VerifyReport> LedgerReader::verify() const {
  Result<SignedHeads> heads = data_.empty() ? SignedHeads{} : read_signed_heads(data_);
  if (!heads) return fail(std::move(heads.error()));
  return verify_with_heads(*view_, std::move(*heads));
}

}  // namespace outlast::storage
