#include "storage/ledger_queries.hpp"

#include <optional>

#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"
#include "storage/rows.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::storage {

RequestId request_id_of(const proto::EntryBody& body) {
  if (const auto* reservation = std::get_if<Reservation>(&body)) return reservation->request_id;
  if (const auto* attempt = std::get_if<AttemptLine>(&body)) return attempt->request_id;
  if (const auto* settled = std::get_if<proto::Settled>(&body))
    return settled->settlement.attempt.request_id;
  if (const auto* voided = std::get_if<proto::Voided>(&body)) return voided->reservation.request_id;
  if (const auto* extension = std::get_if<ReservationExtension>(&body))
    return extension->request_id;
  return {};
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

Result<std::optional<std::string>> recorded_prices(const LedgerView& view,
                                                   std::string_view version) {
  std::string value;
  const Result<bool> found = view.get(Table::meta, prices_key(version), value);
  if (!found) return fail(found.error());
  if (!*found) return std::optional<std::string>{};
  std::uint64_t index = 0;
  std::optional<std::string> toml;
  if (decode_index(value, index)) {
    const Result<void> read = read_entries(view, index, [&toml, index](const StoredEntry& entry) {
      const auto* prices = std::get_if<proto::PricesRecorded>(&entry.body);
      if (entry.header.index == index && prices != nullptr) toml = prices->toml;
      return false;
    });
    if (!read) return fail(read.error());
  }
  if (toml) return toml;
  return fail(LedgerError::corrupt, "the prices of version '" + std::string(version) +
                                        "' cannot be read; see `outlast ledger verify`");
}

Result<std::uint64_t> first_index_since(const LedgerView& view, std::int64_t time_ms) {
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  std::uint64_t before = 0;  // all below are earlier; times never go back
  std::uint64_t end = head->next_index;
  while (before < end) {
    const std::uint64_t middle = before + (end - before) / 2;
    bool earlier = false;
    const Result<void> read = read_entries(view, middle, [&](const StoredEntry& entry) {
      earlier = entry.header.time_ms < time_ms;
      return false;
    });
    if (!read) return fail(read.error());
    if (earlier) before = middle + 1;
    else end = middle;
  }
  return before;
}

Result<MoneyStatus> money_of(const LedgerView& view) {
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  LedgerState state(view, head->max_ended_id);
  if (const Result<void> replayed = replay_tail(view, *head, state); !replayed)
    return fail(replayed.error());
  return money_of(state);
}

namespace {

// A view whose balances are as of its head: with what entries since rows_from changed.
class CurrentBalances final : public LedgerView {
 public:
  CurrentBalances(const LedgerView& view, std::map<std::string, std::string> changed)
      : view_(view), changed_(std::move(changed)) {}
  Result<bool> get(Table table, std::string_view key, std::string& value) const override {
    return view_.get(table, key, value);
  }
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override {
    const Result<void> scanned =
        view_.scan(table, from, to, [&](std::string_view key, std::string_view value) {
          return changed_.contains(std::string(key)) || visit(key, value);
        });
    if (!scanned) return scanned;
    for (const auto& [key, value] : changed_) {
      if (!visit(key, value)) break;
    }
    return {};
  }
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override {
    return view_.read(from, visit);
  }

 private:
  const LedgerView& view_;
  std::map<std::string, std::string> changed_;
};

}  // namespace

Result<std::vector<AccountBalance>> accounts_of(const LedgerView& view) {
  const Result<HeadRow> head = load_head(view);
  if (!head) return fail(head.error());
  LedgerState state(view, head->max_ended_id);
  if (const Result<void> replayed = replay_tail(view, *head, state); !replayed)
    return fail(replayed.error());
  std::map<std::string, std::string> changed;
  state.collect(true, false)
      .for_each([&changed](Table table, std::string_view key, std::string_view value) {
        if (table == Table::meta && !key.empty() && key[0] == balance_prefix)
          changed.insert_or_assign(std::string(key), std::string(value));
      });
  return accounts_of(CurrentBalances(view, std::move(changed)), money_of(state));
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
