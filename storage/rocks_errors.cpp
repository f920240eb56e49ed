#include "storage/rocks_errors.hpp"

#include <rocksdb/metadata.h>
#include <rocksdb/sst_file_reader.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <regex>

#include "core/log.hpp"

namespace outlast::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t latest_max = 32;
constexpr std::uint64_t verify_at_open_bytes_max = 64U << 20;
constexpr std::string_view advice =
    "; restore the data folder from a copy, or move it away to start anew";

// The first name of a RocksDB file in `text`, or empty.
std::string file_in(const std::string& text) {
  static const std::regex name(
      "[0-9]{6,}\\.(sst|ldb|log)|MANIFEST-[0-9]+|CURRENT|IDENTITY|OPTIONS-[0-9]+");
  std::smatch match;
  if (!std::regex_search(text, match, name)) return {};
  std::string file = match.str();
  // Of a missing table file RocksDB reports the old extension, which it tries last.
  if (file.ends_with(".ldb")) file.replace(file.size() - 3, 3, "sst");
  return file;
}

std::string current_of(const std::string& path) {
  std::ifstream file(path + "/CURRENT");
  std::string manifest;
  std::getline(file, manifest);
  return manifest;
}

std::string write_ahead_logs(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& file : fs::directory_iterator(path, error)) {
    if (file.path().extension() == ".log") names.push_back(file.path().filename());
  }
  std::sort(names.begin(), names.end());
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " or ") + name;
  return text;
}

// The status alone often names no file: RocksDB's own log does for the write-ahead log, a second
// look for the manifest.
std::string damaged_file(const rocksdb::Status& status, const std::string& path,
                         const RocksLogger& logger) {
  if (std::string name = file_in(status.ToString()); !name.empty()) return name;
  for (const std::string& line : logger.latest()) {
    if (line.find("dropping") == std::string::npos) continue;
    if (std::string name = file_in(line); !name.empty()) return name;
  }
  std::vector<std::string> families;
  const rocksdb::Status manifest =
      rocksdb::DB::ListColumnFamilies(rocksdb::DBOptions(), path, &families);
  if (!manifest.ok()) return current_of(path).empty() ? "CURRENT" : current_of(path);
  std::string logs = write_ahead_logs(path);
  return logs.empty() ? current_of(path) : logs;
}

// Keeps the files of a database on disk: a compaction, which often begins as a store opens, would
// delete them under a reader that goes by their names. A read-only database has none to stop.
class FilesKept {
 public:
  explicit FilesKept(rocksdb::DB& db) : db_(db), kept_(db.DisableFileDeletions().ok()) {}
  ~FilesKept() {
    if (kept_) db_.EnableFileDeletions(/*force=*/false).PermitUncheckedError();
  }
  FilesKept(const FilesKept&) = delete;
  FilesKept& operator=(const FilesKept&) = delete;

 private:
  rocksdb::DB& db_;
  const bool kept_;
};

}  // namespace

void RocksLogger::Logv(const char* format, va_list arguments) {
  char text[1024];
  std::vsnprintf(text, sizeof(text), format, arguments);
  log::warning("rocksdb", {{"message", text}});
  const std::lock_guard lock(mutex_);
  if (latest_.size() == latest_max) latest_.erase(latest_.begin());
  latest_.emplace_back(text);
}

std::vector<std::string> RocksLogger::latest() const {
  const std::lock_guard lock(mutex_);
  return latest_;
}

Result<void> check_store_files(const std::string& path, bool create) {
  const auto corrupt = [&path](const std::string& what) {
    return fail(LedgerError::corrupt,
                "the ledger in " + path + " is damaged: " + what + std::string(advice));
  };
  std::error_code error;
  if (fs::exists(path + "/CURRENT", error)) {
    const std::string manifest = current_of(path);
    if (!std::regex_match(manifest, std::regex("MANIFEST-[0-9]+")))
      return corrupt("the file CURRENT names no manifest");
    if (!fs::exists(path + "/" + manifest, error))
      return corrupt("the file " + manifest + " is missing");
    return {};
  }
  for (const auto& file : fs::directory_iterator(path, error)) {
    const auto extension = file.path().extension();
    if (extension == ".sst" || (extension == ".log" && file.file_size(error) > 0)) {
      return corrupt("the file CURRENT is missing while " + file.path().filename().string() +
                     " is there");
    }
  }
  if (!create) return fail(LedgerError::io, "there is no ledger in " + path);
  return {};
}

Failure failure(const rocksdb::Status& status) {
  return fail(status.IsCorruption() ? LedgerError::corrupt : LedgerError::io, status.ToString());
}

Failure open_failure(const rocksdb::Status& status, const std::string& path,
                     const RocksLogger& logger) {
  const std::string text = status.ToString();
  if (status.IsNoSpace())
    return fail(LedgerError::disk_full, "no space to open the ledger in " + path + ": " + text);
  if (text.find("lock") != std::string::npos && status.IsIOError()) {
    return fail(LedgerError::locked, path + " is open in another process; stop it (" + text + ")");
  }
  const bool missing = status.IsNotFound() || status.IsPathNotFound() ||
                       text.find("No such file") != std::string::npos;
  if (status.IsCorruption() || status.IsInvalidArgument() || status.IsTryAgain() || missing) {
    return fail(LedgerError::corrupt, "the ledger in " + path + " is damaged: the file " +
                                          damaged_file(status, path, logger) + " (" + text + ")" +
                                          std::string(advice));
  }
  return fail(LedgerError::io, "cannot open the ledger in " + path + ": " + text);
}

Result<void> verify_newest_files(rocksdb::DB& db, const std::string& path) {
  const FilesKept kept(db);
  std::vector<rocksdb::LiveFileMetaData> files;
  db.GetLiveFilesMetaData(&files);
  std::sort(files.begin(), files.end(),
            [](const auto& a, const auto& b) { return a.file_number > b.file_number; });
  std::uint64_t bytes = 0;
  for (const rocksdb::LiveFileMetaData& file : files) {
    bytes += file.size;
    if (bytes > verify_at_open_bytes_max) break;
    rocksdb::SstFileReader reader{rocksdb::Options()};
    rocksdb::Status status = reader.Open(path + file.name);
    if (status.ok()) status = reader.VerifyChecksum();
    if (status.IsCorruption()) {
      return fail(LedgerError::corrupt, "the ledger in " + path + " is damaged: the file " +
                                            file.name.substr(1) + " (" + status.ToString() + ")" +
                                            std::string(advice));
    }
    if (!status.ok()) return failure(status);
  }
  return {};
}

}  // namespace outlast::storage
