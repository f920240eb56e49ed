#include "storage/backup.hpp"

#include <rocksdb/db.h>
#include <rocksdb/utilities/backup_engine.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "storage/durable_file.hpp"
#include "storage/file_lock.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_errors.hpp"
#include "storage/rocks_log.hpp"
#include "storage/signed_heads.hpp"

namespace outlast::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view marker_title = "outlast-backup 1 ";
constexpr std::size_t segment_file_bytes_max = 256U << 20;
constexpr std::size_t small_file_bytes_max = 64U << 20;
constexpr const char* files_beside[] = {"heads.1", "heads", "head.pub", "key.secret"};

std::string marker_of(const std::string& folder) { return folder + "/outlast-backup"; }

Failure backup_failure(const rocksdb::Status& status, const std::string& what) {
  const auto code = status.IsNoSpace()      ? LedgerError::disk_full
                    : status.IsCorruption() ? LedgerError::corrupt
                                            : LedgerError::io;
  return fail(code, what + ": " + status.ToString());
}

// Which ledger this is: the hash of its first entry.
Result<std::string> identity_of(const LedgerView& view) {
  std::string identity;
  const Result<void> read = view.read(0, [&identity](const LogRecord& record) {
    identity = to_hex(entry_hash(record.prev_hash, record.frame));
    return false;
  });
  if (!read) return fail(read.error());
  if (identity.empty()) return fail(LedgerError::invalid, "the ledger has no entries yet, so there is nothing to back up");
  return identity;
}

// The folder is empty, or holds backups of the same ledger.
Result<void> claim_folder(const std::string& folder, const std::string& identity) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return fail(LedgerError::io, "cannot make " + folder + ": " + error.message());
  const std::string text = std::string(marker_title) + identity + "\n";
  if (!fs::exists(marker_of(folder), error)) {
    if (!fs::is_empty(folder, error)) {
      return fail(LedgerError::invalid, folder + " holds something else; name an empty folder, " +
                                            "or one with backups of this ledger");
    }
    return write_file_durably(marker_of(folder), text, 0644);
  }
  const Result<std::string> marker = read_whole_file(marker_of(folder), small_file_bytes_max);
  if (!marker) return fail(marker.error());
  if (*marker != text) {
    return fail(LedgerError::invalid,
                folder + " holds backups of another ledger; give each its own folder");
  }
  return {};
}

rocksdb::BackupEngineOptions engine_options(const std::string& folder) {
  rocksdb::BackupEngineOptions options(folder);
  options.share_table_files = true;
  options.share_files_with_checksum = true;
  options.backup_log_files = true;
  options.sync = true;
  return options;
}

// Segments never change, so one that has its length and hash is not copied again.
Result<void> copy_segments(const std::vector<SegmentRow>& rows, const std::string& from,
                           const std::string& to) {
  std::error_code error;
  if (rows.empty()) return {};
  fs::create_directories(to, error);
  if (error) return fail(LedgerError::io, "cannot make " + to + ": " + error.message());
  for (const SegmentRow& row : rows) {
    if (check_segment(to, row)) continue;
    const Result<std::string> bytes =
        read_whole_file(from + "/" + segment_name(row), segment_file_bytes_max);
    if (!bytes) return fail(bytes.error());
    if (Result<void> written = write_file_durably(to + "/" + segment_name(row), *bytes, 0644);
        !written) {
      return written;
    }
    if (Result<void> good = check_segment(to, row); !good) return good;
  }
  return sync_folder(fs::path(to).parent_path().string());
}

struct BackupContents {
  std::vector<SegmentRow> segments;
  HeadRow head;
};

// Opens the backup as the database that it is.
Result<BackupContents> contents_of(const rocksdb::BackupInfo& info) {
  const Result<std::unique_ptr<RocksLog>> log =
      RocksLog::open_backup(info.name_for_open, info.env_for_open.get());
  if (!log) return fail(log.error());
  BackupContents contents;
  const Result<HeadRow> head = load_head(**log);
  if (!head) return fail(head.error());
  contents.head = *head;
  Result<std::vector<SegmentRow>> rows = (*log)->segments();
  if (!rows) return fail(std::move(rows.error()));
  contents.segments = std::move(*rows);
  Digest last{};
  std::uint64_t end = 0;
  if (contents.head.next_index == 0) return contents;
  const Result<void> read =
      (*log)->read(contents.head.next_index - 1, [&last, &end](const LogRecord& record) {
        last = entry_hash(record.prev_hash, record.frame);
        end = record.index + 1;
        return true;
      });
  if (!read) return fail(read.error());
  if (end != contents.head.next_index || last != contents.head.hash)
    return fail(LedgerError::corrupt, "the backup's log does not end at its head");
  return contents;
}

}  // namespace

Result<BackupReport> make_backup(rocksdb::DB& db, const std::string& identity,
                                 const std::string& segments, const std::string& folder,
                                 std::uint32_t keep) {
  if (Result<void> claimed = claim_folder(folder, identity); !claimed)
    return fail(std::move(claimed.error()));
  rocksdb::BackupEngine* opened = nullptr;
  rocksdb::Status status =
      rocksdb::BackupEngine::Open(engine_options(folder), rocksdb::Env::Default(), &opened);
  if (!status.ok()) return backup_failure(status, "cannot use " + folder + " for backups");
  const std::unique_ptr<rocksdb::BackupEngine> engine(opened);
  // Without a flush: two column families do not flush as of one moment; the write-ahead log does.
  rocksdb::CreateBackupOptions options;
  options.flush_before_backup = false;
  rocksdb::BackupID id = 0;
  status = engine->CreateNewBackup(options, &db, &id);
  if (!status.ok()) return backup_failure(status, "the backup to " + folder + " failed");
  status = engine->VerifyBackup(id, /*verify_with_checksum=*/true);
  rocksdb::BackupInfo info;
  if (status.ok()) status = engine->GetBackupInfo(id, &info, /*include_file_details=*/true);
  if (!status.ok()) return backup_failure(status, "the backup in " + folder + " is not whole");
  Result<BackupContents> contents = contents_of(info);
  if (!contents) return fail(std::move(contents.error()));
  if (Result<void> copied = copy_segments(contents->segments, segments, folder + "/segments");
      !copied) {
    return fail(std::move(copied.error()));
  }
  status = engine->PurgeOldBackups(std::clamp(keep, 1U, backups_kept_max));
  if (!status.ok()) return backup_failure(status, "old backups in " + folder + " stay");
  std::vector<rocksdb::BackupInfo> infos;
  engine->GetBackupInfo(&infos);
  BackupReport report;
  report.id = id;
  report.entries = contents->head.next_index;
  report.head_hash = contents->head.hash;
  report.segments = contents->segments.size();
  report.bytes = info.size;
  report.kept = static_cast<std::uint32_t>(infos.size());
  return report;
}

Result<BackupReport> RocksLog::backup(const std::string& folder, std::uint32_t keep) const {
  const Result<std::string> identity = identity_of(*this);
  if (!identity) return fail(identity.error());
  return make_backup(database(), *identity, segments_folder(), folder, keep);
}

Result<void> copy_files_beside(const std::string& from, const std::string& to, bool replace) {
  std::error_code error;
  for (const char* name : files_beside) {
    const std::string source = from + "/" + name;
    const std::string target = to + "/" + name;
    struct stat info {};
    if (::stat(source.c_str(), &info) != 0 || (!replace && fs::exists(target, error))) continue;
    const Result<std::string> bytes = read_whole_file(source, small_file_bytes_max);
    if (!bytes) return fail(bytes.error());
    if (Result<void> written = write_file_durably(target, *bytes, info.st_mode & 0777); !written)
      return written;
  }
  return {};
}

namespace {

bool within(const fs::path& inner, const fs::path& outer) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(inner, error);
  const fs::path root = fs::weakly_canonical(outer, error);
  return std::mismatch(root.begin(), root.end(), whole.begin(), whole.end()).first == root.end();
}

}  // namespace

Result<void> check_backup_folder(const std::string& folder, const std::string& data) {
  if (!fs::path(folder).is_absolute()) {
    return fail(LedgerError::invalid,
                "a backup's folder is an absolute path, as the node sees it: /srv/backup/n1");
  }
  if (!data.empty() && within(folder, data)) {
    return fail(LedgerError::invalid,
                folder + " lies within the node's data, which it is to outlive; name another");
  }
  return {};
}

Result<BackupReport> backup_ledger(const RocksLog& log, const std::string& data,
                                   const std::string& folder, std::uint32_t keep) {
  if (Result<void> good = check_backup_folder(folder, data); !good)
    return fail(std::move(good.error()));
  const Result<std::string> identity = identity_of(log);
  if (!identity) return fail(identity.error());
  if (Result<void> claimed = claim_folder(folder, *identity); !claimed)
    return fail(std::move(claimed.error()));
  // Heads first: the log that is copied after them holds what they name.
  if (!data.empty()) {
    if (Result<void> copied = copy_files_beside(data, folder, true); !copied)
      return fail(std::move(copied.error()));
  }
  return log.backup(folder, keep);
}

namespace {

Result<void> refuse_ledger(const std::string& ledger, bool force) {
  std::error_code error;
  if (!fs::exists(ledger, error)) return {};
  if (Result<void> free = FileLock::probe(ledger); !free) return free;
  if (force || fs::is_empty(ledger, error)) return {};
  return fail(LedgerError::invalid,
              ledger + " holds a ledger; restore to another data folder, or give --force to move " +
                  "that one aside");
}

Result<void> restore_files(const std::string& folder, const std::string& to, std::uint32_t& id) {
  rocksdb::BackupEngineReadOnly* opened = nullptr;
  rocksdb::Status status =
      rocksdb::BackupEngineReadOnly::Open(engine_options(folder), rocksdb::Env::Default(), &opened);
  if (!status.ok()) return backup_failure(status, "cannot read backups in " + folder);
  const std::unique_ptr<rocksdb::BackupEngineReadOnly> engine(opened);
  rocksdb::BackupInfo info;
  status = engine->GetLatestBackupInfo(&info);
  if (status.IsNotFound())
    return fail(LedgerError::invalid, "there is no whole backup in " + folder);
  if (status.ok()) status = engine->RestoreDBFromBackup(info.backup_id, to, to);
  if (!status.ok()) return backup_failure(status, "the backup in " + folder + " is damaged");
  id = info.backup_id;
  std::error_code error;
  if (!fs::is_directory(folder + "/segments", error)) return {};
  fs::create_directories(to + "/segments", error);
  for (const auto& file : fs::directory_iterator(folder + "/segments", error)) {
    const Result<std::string> bytes = read_whole_file(file.path(), segment_file_bytes_max);
    if (!bytes) return fail(bytes.error());
    const std::string target = to + "/segments/" + file.path().filename().string();
    if (Result<void> written = write_file_durably(target, *bytes, 0644); !written) return written;
  }
  return {};
}

// The restored copy as a whole, signed heads of the backup included.
Result<VerifyReport> verify_copy(const std::string& ledger, const std::string& folder) {
  const Result<std::unique_ptr<RocksLog>> log = RocksLog::open_read_only(ledger);
  if (!log) return fail(log.error());
  Result<SignedHeads> heads = read_signed_heads(folder);
  if (!heads) return fail(heads.error());
  return verify_with_heads(**log, std::move(*heads));
}

}  // namespace

Result<RestoreReport> restore_backup(const std::string& folder, const std::string& data,
                                     bool force) {
  std::error_code error;
  if (!fs::exists(marker_of(folder), error)) {
    return fail(LedgerError::invalid,
                folder + " holds no backup of a ledger (the file outlast-backup is missing)");
  }
  const std::string ledger = data + "/ledger";
  if (Result<void> free = refuse_ledger(ledger, force); !free) return fail(std::move(free.error()));
  const std::string copy = data + "/ledger.restoring";
  fs::remove_all(copy, error);
  fs::create_directories(copy, error);
  if (error) return fail(LedgerError::io, "cannot make " + copy + ": " + error.message());
  RestoreReport report;
  if (Result<void> restored = restore_files(folder, copy, report.id); !restored)
    return fail(std::move(restored.error()));
  Result<VerifyReport> verified = verify_copy(copy, folder);
  if (!verified) return fail(std::move(verified.error()));
  if (!verified->ok) {
    return fail(LedgerError::corrupt, "the backup in " + folder + " does not verify: " +
                                          verified->problem + "; nothing was replaced");
  }
  report.verified = std::move(*verified);
  if (fs::exists(ledger, error) && !fs::is_empty(ledger, error)) {
    report.moved_aside = ledger + ".before-restore";
    for (int n = 2; fs::exists(report.moved_aside, error); ++n)
      report.moved_aside = ledger + ".before-restore-" + std::to_string(n);
    fs::rename(ledger, report.moved_aside, error);
  } else {
    fs::remove(ledger, error);
  }
  if (!error) fs::rename(copy, ledger, error);
  if (error) return fail(LedgerError::io, "cannot put " + copy + " in place: " + error.message());
  // Newer heads that stand there stay: they say what the backup lacks.
  if (Result<void> copied = copy_files_beside(folder, data, false); !copied)
    return fail(std::move(copied.error()));
  if (Result<void> synced = sync_folder(data); !synced) return fail(std::move(synced.error()));
  return report;
}

}  // namespace outlast::storage
