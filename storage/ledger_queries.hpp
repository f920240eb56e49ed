// What can be asked of a ledger, over any LedgerView: entries, usage, and whether it is whole. And
// LedgerReader, the same for a store whose daemon is stopped. Pure functions; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/result.hpp"
#include "storage/entry.hpp"
#include "storage/log.hpp"
#include "storage/usage_report.hpp"

namespace outlast::storage {

// Entries of index >= from in order, until `visit` returns false. Error: corrupt, with the index.
Result<void> read_entries(const LedgerView& view, std::uint64_t from,
                          const std::function<bool(const StoredEntry&)>& visit);

// Sums the roll-ups of the query's hours.
Result<UsageReport> usage_of(const LedgerView& view, const UsageQuery& query);

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

 private:
  LedgerReader(std::unique_ptr<LedgerView> view, std::string data)
      : view_(std::move(view)), data_(std::move(data)) {}
  std::unique_ptr<LedgerView> view_;
  std::string data_;
};

}  // namespace outlast::storage
