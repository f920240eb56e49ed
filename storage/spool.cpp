#include "storage/spool.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "core/crypto.hpp"
#include "storage/durable_file.hpp"

namespace outlast::storage {
namespace {

constexpr std::string_view file_magic = "outlast spool 1\n";
constexpr std::string_view group_magic("\x9bSpG\x01\xf3\x5e\xa7", 8);
constexpr std::size_t digest_bytes = 16;  // of SHA-256
constexpr std::size_t group_header_bytes = group_magic.size() + 4 + digest_bytes;
constexpr std::size_t record_header_bytes = 8 + 4;
constexpr std::size_t shard_bytes_max = 64;
constexpr std::size_t spool_bytes_read_max = 8ULL << 30;
constexpr std::size_t holders_bytes_max = 1U << 20;
constexpr std::string_view extension = ".spool";
constexpr std::string_view holders_name = "holders";

template <class Number>
void put_number(std::string& out, Number number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

template <class Number>
Number number_at(std::string_view bytes, std::size_t at) {
  Number number = 0;
  std::memcpy(&number, bytes.data() + at, sizeof number);
  return number;
}

std::string header_of(const SpoolFile& file) {
  std::string header(file_magic);
  header.append(reinterpret_cast<const char*>(file.holder.bytes.data()), file.holder.bytes.size());
  put_number(header, static_cast<std::uint32_t>(file.shard.size()));
  return header + file.shard;
}

// Bound to the holder and the place, so that no group of another time or file is taken for this one.
std::string digest_of(const Incarnation& holder, std::uint64_t at, std::string_view content) {
  std::string place;
  put_number(place, at);
  const Digest digest =
      Sha256().update(std::as_bytes(std::span(holder.bytes))).update(place).update(content).finish();
  return {reinterpret_cast<const char*>(digest.data()), digest_bytes};
}

bool write_at(int fd, std::string_view bytes, std::uint64_t at) {
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(written));
    at += static_cast<std::uint64_t>(written);
  }
  return true;
}

// The content of the group that stands at `at`; no value where none does.
std::optional<std::string_view> group_at(const Incarnation& holder, std::string_view bytes, std::size_t at) {
  if (bytes.size() - at < group_header_bytes || bytes.substr(at, group_magic.size()) != group_magic)
    return std::nullopt;
  const auto content_bytes = number_at<std::uint32_t>(bytes, at + group_magic.size());
  if (content_bytes > bytes.size() - at - group_header_bytes) return std::nullopt;
  const std::string_view content = bytes.substr(at + group_header_bytes, content_bytes);
  const std::string_view digest = bytes.substr(at + group_magic.size() + 4, digest_bytes);
  if (digest != digest_of(holder, at, content)) return std::nullopt;
  return content;
}

// A crash leaves an unfinished group only at the end: a whole one after it means damage.
bool group_follows(const Incarnation& holder, std::string_view bytes, std::size_t at) {
  for (at = bytes.find(group_magic, at + 1); at != std::string_view::npos; at = bytes.find(group_magic, at + 1)) {
    if (group_at(holder, bytes, at)) return true;
  }
  return false;
}

Failure corrupt(const SpoolFile& file, std::size_t at, const char* what) {
  return fail(LedgerError::corrupt, "the spool " + file.path + " is damaged at byte " + std::to_string(at) + ": " +
                                        what + "; restore the file, or remove it and count its slices as spent");
}

}  // namespace

Spool::Spool(SpoolFile file, int fd, std::uint64_t header_bytes, std::uint64_t bytes_max)
    : file_(std::move(file)), fd_(fd), header_bytes_(header_bytes), bytes_max_(bytes_max), file_bytes_(header_bytes) {}

Spool::~Spool() { ::close(fd_); }

Result<std::unique_ptr<Spool>> Spool::create(const std::string& folder, std::string_view shard,
                                             const Incarnation& holder, std::uint64_t bytes_max) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  SpoolFile file{folder + "/" + std::string(shard) + "." + holder.to_string() + std::string(extension),
                 std::string(shard), holder};
  const std::string header = header_of(file);
  const int fd = ::open(file.path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return file_failure("make", file.path);
  std::unique_ptr<Spool> spool(new Spool(std::move(file), fd, header.size(), bytes_max));
  if (!write_at(fd, header, 0) || ::fsync(fd) != 0) return file_failure("write", spool->file_.path);
  if (Result<void> synced = sync_folder(folder); !synced) return fail(std::move(synced.error()));
  return spool;
}

Result<void> Spool::append(std::span<const SpoolRecord> records) {
  if (failed_) return fail(LedgerError::io, "an earlier write to " + file_.path + " failed; start again");
  if (records.empty()) return {};
  std::string content;
  for (const SpoolRecord& record : records) {
    put_number(content, record.sequence);
    put_number(content, static_cast<std::uint32_t>(record.frame.size()));
    content += record.frame;
  }
  if (content.size() > group_bytes_max || file_bytes_ + group_header_bytes + content.size() > bytes_max_) {
    return fail(LedgerError::overloaded, "the spool " + file_.path + " is full with " + std::to_string(file_bytes_) +
                                             " bytes; it empties when the shard's owner is reached");
  }
  group_.assign(group_magic);
  put_number(group_, static_cast<std::uint32_t>(content.size()));
  group_ += digest_of(file_.holder, file_bytes_, content);
  group_ += content;
  failed_ = !write_at(fd_, group_, file_bytes_) || ::fdatasync(fd_) != 0;
  if (failed_) return file_failure("write", file_.path);
  file_bytes_ += group_.size();
  return {};
}

Result<void> Spool::truncate() {
  if (failed_) return fail(LedgerError::io, "an earlier write to " + file_.path + " failed; start again");
  failed_ = ::ftruncate(fd_, static_cast<off_t>(header_bytes_)) != 0 || ::fdatasync(fd_) != 0;
  if (failed_) return file_failure("truncate", file_.path);
  file_bytes_ = header_bytes_;
  return {};
}

Result<std::vector<SpoolFile>> find_spools(const std::string& folder) {
  std::vector<SpoolFile> found;
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) return found;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!name.ends_with(extension)) continue;
    const std::string_view stem = std::string_view(name).substr(0, name.size() - extension.size());
    const std::size_t dot = stem.find('.');
    const std::optional<Uuid> holder =
        dot == std::string_view::npos ? std::nullopt : Uuid::parse(stem.substr(dot + 1));
    if (!holder) return fail(LedgerError::corrupt, at->path().string() + " is not the name of a spool");
    found.push_back({at->path().string(), std::string(stem.substr(0, dot)), *holder});
  }
  if (error) return fail(LedgerError::io, "cannot list " + folder + ": " + error.message());
  std::sort(found.begin(), found.end(), [](const SpoolFile& a, const SpoolFile& b) { return a.path < b.path; });
  return found;
}

Result<std::vector<SpoolRecord>> read_spool(const SpoolFile& file) {
  const Result<std::string> whole = read_whole_file(file.path, spool_bytes_read_max);
  if (!whole) return fail(whole.error());
  const std::string_view bytes = *whole;
  const std::string header = header_of(file);
  std::vector<SpoolRecord> records;
  // A crash while it was made: nothing can have been appended.
  if (bytes.size() < header.size()) return records;
  if (!bytes.starts_with(header)) return corrupt(file, 0, "its header is not that of its name");
  for (std::size_t at = header.size(); at < bytes.size();) {
    const std::optional<std::string_view> content = group_at(file.holder, bytes, at);
    if (!content) {
      if (group_follows(file.holder, bytes, at)) return corrupt(file, at, "records follow that are whole");
      break;
    }
    for (std::size_t in = 0; in < content->size();) {
      if (content->size() - in < record_header_bytes) return corrupt(file, at, "a record is cut");
      const auto sequence = number_at<std::uint64_t>(*content, in);
      const auto frame_bytes = number_at<std::uint32_t>(*content, in + 8);
      in += record_header_bytes;
      if (frame_bytes > content->size() - in) return corrupt(file, at, "a record is cut");
      records.push_back({sequence, std::string(content->substr(in, frame_bytes))});
      in += frame_bytes;
    }
    at += group_header_bytes + content->size();
  }
  return records;
}

Result<void> remove_spool(const SpoolFile& file) {
  if (::unlink(file.path.c_str()) != 0 && errno != ENOENT) return file_failure("remove", file.path);
  return sync_folder(std::filesystem::path(file.path).parent_path().string());
}

Result<std::optional<std::vector<Incarnation>>> read_holders(const std::string& folder) {
  const std::string path = folder + "/" + std::string(holders_name);
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::optional<std::vector<Incarnation>>();
  const Result<std::string> text = read_whole_file(path, holders_bytes_max);
  if (!text) return fail(text.error());
  std::vector<Incarnation> holders;
  for (std::size_t at = 0; at < text->size();) {
    const std::size_t end = std::min(text->find('\n', at), text->size());
    const std::optional<Uuid> holder = Uuid::parse(std::string_view(*text).substr(at, end - at));
    if (!holder) return fail(LedgerError::corrupt, path + " is damaged at byte " + std::to_string(at));
    holders.push_back(*holder);
    at = end + 1;
  }
  return std::optional(std::move(holders));
}

Result<void> write_holders(const std::string& folder, std::span<const Incarnation> holders) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  std::string text;
  for (const Incarnation& holder : holders) text += holder.to_string() + "\n";
  return write_file_durably(folder + "/" + std::string(holders_name), text, 0600);
}

}  // namespace outlast::storage
