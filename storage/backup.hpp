// Backups of a ledger: made while it runs, each as of one moment, sharing what did not change with
// those before; and restored into a folder that holds none. Why by RocksDB's backup engine:
// docs/decisions/0008-backups-and-segments.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/crypto.hpp"
#include "core/result.hpp"
#include "storage/usage_report.hpp"

namespace rocksdb {
class DB;
}

namespace outlast::storage {

class RocksLog;

struct BackupReport {
  std::uint32_t id = 0;        // of the backups in that folder
  std::uint64_t entries = 0;   // that it holds
  Digest head_hash{};          // of the last of them
  std::uint64_t segments = 0;  // files of old entries, those of earlier backups included
  std::uint64_t bytes = 0;     // of this backup, what it shares with others included
  std::uint32_t kept = 0;      // backups in the folder now
};

inline constexpr std::uint32_t backups_kept_default = 7;
inline constexpr std::uint32_t backups_kept_max = 10'000;

// Backs up database and segments of the ledger whose first entry has the hash `identity`, reads the
// backup back (every checksum; and that the copy opens as a ledger with its head), and drops the
// oldest beyond `keep`. Errors: invalid (the folder holds something else, or backups of another
// ledger), io, disk_full, corrupt.
Result<BackupReport> make_backup(rocksdb::DB& db, const std::string& identity,
                                 const std::string& segments, const std::string& folder,
                                 std::uint32_t keep);

// The files of a data folder that belong to its ledger but lie beside it: signed heads and their
// public keys, and the secret without which virtual keys are not known again. Those that are there
// replace those in `to`, or only fill what is absent.
Result<void> copy_files_beside(const std::string& from, const std::string& to, bool replace);

// That it is an absolute path, and not within the data folder `data` (empty: anywhere). Error: invalid.
Result<void> check_backup_folder(const std::string& folder, const std::string& data);

// Both, to a folder outside of the data folder `data` (empty: there are no files beside).
Result<BackupReport> backup_ledger(const RocksLog& log, const std::string& data,
                                   const std::string& folder, std::uint32_t keep);

struct RestoreReport {
  std::uint32_t id = 0;
  VerifyReport verified;
  std::string moved_aside;  // where the ledger that stood there is now; empty when there was none
};

// Restores the newest backup in `folder` to the data folder `data`, and verifies the whole ledger
// before it takes its place. A ledger that is there already is refused, or with `force` moved
// aside. Errors: invalid, locked, io, disk_full, corrupt (names the file, or the first bad entry).
Result<RestoreReport> restore_backup(const std::string& folder, const std::string& data,
                                     bool force);

}  // namespace outlast::storage
