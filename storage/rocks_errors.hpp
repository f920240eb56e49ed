// RocksDB's failures as errors that a person can act on: which file is damaged, and whether someone
// else holds the store.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/status.h>

#include <cstdarg>
#include <mutex>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

// RocksDB's warnings go to our log, and the latest stay at hand: a damaged write-ahead log is named
// only there. Any thread.
class RocksLogger final : public rocksdb::Logger {
 public:
  RocksLogger() : Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}
  using Logger::Logv;
  void Logv(const char* format, va_list arguments) override;
  [[nodiscard]] std::vector<std::string> latest() const;

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> latest_;
};

// Refuses a folder whose CURRENT is gone or damaged while data is there: RocksDB would begin an
// empty store.
Result<void> check_store_files(const std::string& path, bool create);

Failure failure(const rocksdb::Status& status);
Failure open_failure(const rocksdb::Status& status, const std::string& path,
                     const RocksLogger& logger);

// Checks all blocks of the newest table files, up to a limit that keeps a start short; `ledger
// verify` reads the rest.
Result<void> verify_newest_files(rocksdb::DB& db, const std::string& path);

}  // namespace outlast::storage
