// RocksLog: log and tables of one node in one RocksDB, so that a commit is one synced write batch.
// The only place that knows RocksDB; its options and why: docs/ledger.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "storage/backup.hpp"
#include "storage/log.hpp"
#include "storage/segments.hpp"

namespace rocksdb {
class DB;
class Env;
}

namespace outlast::storage {

// What a store is to the log that it holds.
enum class RocksDuty : std::uint8_t {
  original,  // the only copy: every append is synced
  replica,   // what is lost is read again from the log that nodes share: synced now and then; and one
             // of many on its node, so with smaller buffers
};

// append() on one thread; everything else on any.
class RocksLog final : public Log {
 public:
  // Opens or creates. Errors: locked (another process has it open; the message says which), corrupt
  // (names the file), io. `env`: RocksDB's files, for tests that lose power; outlives the log.
  static Result<std::unique_ptr<RocksLog>> open(const std::string& path,
                                                rocksdb::Env* env = nullptr,
                                                RocksDuty duty = RocksDuty::original);
  // Without writing anything, for a store that no process has open. Errors: as above; io when there
  // is no store.
  static Result<std::unique_ptr<RocksLog>> open_read_only(const std::string& path);
  // A database within a backup, whose segments lie elsewhere: only what is in the log can be read.
  static Result<std::unique_ptr<RocksLog>> open_backup(const std::string& path, rocksdb::Env* env);
  ~RocksLog() override;

  Result<bool> get(Table table, std::string_view key, std::string& value) const override;
  Result<void> scan(
      Table table, std::string_view from, std::string_view to,
      const std::function<bool(std::string_view, std::string_view)>& visit) const override;
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const LogRecord&)>& visit) const override;
  Result<void> append(const LogBatch& batch, const TableChanges& changes) override;
  [[nodiscard]] std::unique_ptr<LedgerView> snapshot() const override;
  // Of a replica: what was appended so far is on disk on return.
  Result<void> sync();
  // The whole store as of one moment, in a folder that is not there yet, on the same file system: its
  // files are links. A store opened there holds the same.
  Result<void> checkpoint(const std::string& folder) const;
  // Dedup rows of ids made before that time may be dropped.
  void drop_ids_before(std::int64_t time_ms);

  // For the archiver, on any one thread beside that of append():
  //
  // Batches that are still in the log, in order, until `visit` returns false.
  Result<void> read_batches(const std::function<bool(const LogBatch&)>& visit) const;
  // The entries of the segment, which is on disk, leave the log as its row comes; durable on return
  // and otherwise as append().
  Result<void> move_to_segment(const SegmentRow& row);
  // Gives the space of entries up to `last` back. May take long.
  Result<void> compact_log(std::uint64_t last);
  // All of it, log and tables. Takes as long as the store is large.
  Result<void> compact();
  [[nodiscard]] std::string segments_folder() const;
  [[nodiscard]] Result<std::vector<SegmentRow>> segments() const;

  // Copies everything to `folder` as of one moment; what earlier backups there have is not copied
  // again. The rest as make_backup().
  Result<BackupReport> backup(const std::string& folder, std::uint32_t keep) const;

 private:
  struct Impl;
  explicit RocksLog(std::shared_ptr<Impl> impl);
  [[nodiscard]] rocksdb::DB& database() const;
  std::shared_ptr<Impl> impl_;  // shared with snapshots
};

}  // namespace outlast::storage
