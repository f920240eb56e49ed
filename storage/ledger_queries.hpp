// What can be asked of a ledger, over any LedgerView: entries, usage, and whether it is whole. And
// LedgerReader, the same for a store whose daemon is stopped. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/member_records.hpp"
#include "core/result.hpp"
#include "core/spend_breaker.hpp"
#include "storage/accounts.hpp"
#include "storage/entry.hpp"
#include "storage/log.hpp"
#include "storage/usage_report.hpp"

namespace outlast::storage {

// Entries of index >= from in order, until `visit` returns false. Error: corrupt, with the index.
Result<void> read_entries(const LedgerView& view, std::uint64_t from,
                          const std::function<bool(const StoredEntry&)>& visit);

// The text of the latest price book of a version; nothing when none is recorded.
Result<std::optional<std::string>> recorded_prices(const LedgerView& view,
                                                   std::string_view version);
// The first index whose entry is not earlier than a time; the next index when all are.
Result<std::uint64_t> first_index_since(const LedgerView& view, std::int64_t time_ms);

// Sums the roll-ups of the query's time (storage/usage_query.cpp). Errors: invalid (the query asks
// for what is not kept together, or for more than usage_rows_max rows), corrupt.
Result<UsageReport> usage_of(const LedgerView& view, const UsageQuery& query);
// The same over several ledgers, as if they were one: the shards of a cluster.
Result<UsageReport> usage_of(std::span<const LedgerView* const> views, const UsageQuery& query);

// Open spend breakers, allowances and rules made by API.
Result<BreakerRecords> breakers_of(const LedgerView& view);
// A cluster's nodes, join tokens and settings.
Result<MemberRecords> members_of(const LedgerView& view);
// Where budgets and commitments stand, as of the ledger's last entry.
Result<MoneyStatus> money_of(const LedgerView& view);
// Every account of the double entry.
Result<std::vector<AccountBalance>> accounts_of(const LedgerView& view);

// Reads every entry and recomputes chain, order, times, state machine, balances, roll-ups, dedup
// rows and keys. What is wrong with the content is in the report; an error means that it could not
// be read at all.
Result<VerifyReport> verify_ledger(const LedgerView& view);

// A store opened without writing, while no daemon has it open.
class LedgerReader {
 public:
  // Errors: locked (ask the daemon instead), corrupt (names the file), io (there is no store).
  // `data`: the folder with its signed heads; empty for none.
  static Result<std::unique_ptr<LedgerReader>> open(const std::string& path,
                                                    const std::string& data = {});

  [[nodiscard]] Result<UsageReport> usage(const UsageQuery& query) const {
    return usage_of(*view_, query);
  }
  [[nodiscard]] Result<void> read(std::uint64_t from,
                                  const std::function<bool(const StoredEntry&)>& visit) const {
    return read_entries(*view_, from, visit);
  }
  // Signed heads included.
  [[nodiscard]] Result<VerifyReport> verify() const;
  [[nodiscard]] const LedgerView& view() const { return *view_; }
  [[nodiscard]] Result<MoneyStatus> money() const { return money_of(*view_); }
  [[nodiscard]] Result<std::vector<AccountBalance>> accounts() const { return accounts_of(*view_); }

 private:
  LedgerReader(std::unique_ptr<LedgerView> view, std::string data)
      : view_(std::move(view)), data_(std::move(data)) {}
  std::unique_ptr<LedgerView> view_;
  std::string data_;
};

}  // namespace outlast::storage
