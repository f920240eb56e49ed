// RocksLog: log and tables of one node in one RocksDB, so that a commit is one synced write batch.
// The only place that knows RocksDB; its options and why: docs/ledger.md.
#pragma once

#include <memory>
#include <string>

#include "storage/log.hpp"

namespace outlast::storage {

// append() on one thread; everything else on any.
class RocksLog final : public Log {
 public:
  // Opens or creates. Errors: locked (another process has it open; the message says which), corrupt
  // (names the file), io.
  static Result<std::unique_ptr<RocksLog>> open(const std::string& path);
  // Without writing anything, for a store that no process has open. Errors: as above; io when there
  // is no store.
  static Result<std::unique_ptr<RocksLog>> open_read_only(const std::string& path);
  ~RocksLog() override;

  Result<bool> get(Table table, std::string_view key, std::string& value) const override;
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override;
  Result<void> append(const LogBatch& batch, const TableChanges& changes) override;
  [[nodiscard]] std::unique_ptr<LedgerView> snapshot() const override;
  // Dedup rows of ids made before that time may be dropped.
  void drop_ids_before(std::int64_t time_ms);

 private:
  struct Impl;
  explicit RocksLog(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;  // shared with snapshots
};

}  // namespace outlast::storage
