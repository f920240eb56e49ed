#include "gpu/files/whole_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t read_bytes = 1U << 20;

Failure file_failed(const std::string& what, const std::string& path) {
  return fail(GpuError::io, "cannot " + what + " " + path + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  // What is no file must not hold the caller before that is seen.
  Descriptor(const char* path, int flags, mode_t mode = 0) : number_(::open(path, flags | O_CLOEXEC | O_NONBLOCK, mode)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] bool is_open() const { return number_ >= 0; }
  [[nodiscard]] int number() const { return number_; }

 private:
  const int number_;
};

}  // namespace

Result<std::string> read_whole_file(const std::string& path, std::size_t bytes_max) {
  const Descriptor file(path.c_str(), O_RDONLY);
  if (!file.is_open()) return file_failed("open", path);
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) return file_failed("look at", path);
  if (!S_ISREG(status.st_mode)) return fail(GpuError::io, path + " is not a file");
  if (static_cast<std::size_t>(status.st_size) > bytes_max)
    return fail(GpuError::too_large, path + " has " + std::to_string(status.st_size) + " bytes; at most " +
                                         std::to_string(bytes_max) + " are read");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.number(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return file_failed("read", path);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Result<void> sync_folder(const std::string& folder) {
  const Descriptor opened(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (!opened.is_open()) return file_failed("open", folder);
  if (::fsync(opened.number()) != 0) return file_failed("sync", folder);
  return {};
}

LineReader::LineReader(const std::string& path, std::size_t line_bytes_max)
    : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), open_error_(descriptor_ < 0 ? errno : 0), line_bytes_max_(line_bytes_max) {}

LineReader::~LineReader() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<bool> LineReader::next(std::string& line) {
  if (descriptor_ < 0) return fail(GpuError::io, std::string("it cannot be opened: ") + std::strerror(open_error_));
  for (std::size_t searched = at_;;) {
    const std::size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos || ended_) {
      if (at_ == buffer_.size()) return false;
      const std::size_t size = (end == std::string::npos ? buffer_.size() : end) - at_;
      line.assign(buffer_, at_, size);
      at_ += size + (end == std::string::npos ? 0 : 1);
      return true;
    }
    if (buffer_.size() - at_ > line_bytes_max_)
      return fail(GpuError::too_large, "it has more than " + std::to_string(line_bytes_max_) + " bytes");
    buffer_.erase(0, std::exchange(at_, 0));
    searched = buffer_.size();
    buffer_.resize(searched + read_bytes);
    const ssize_t got = ::read(descriptor_, buffer_.data() + searched, read_bytes);
    const int error = errno;
    buffer_.resize(searched + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got < 0 && error != EINTR) return fail(GpuError::io, std::string("it cannot be read: ") + std::strerror(error));
    ended_ = got == 0;
  }
}

NewFile::NewFile(std::string path)
    : path_(std::move(path)),
      beside_(path_ + ".new"),
      descriptor_(::open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)),
      open_error_(descriptor_ < 0 ? errno : 0) {}

NewFile::~NewFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!finished_) ::unlink(beside_.c_str());
}

Result<void> NewFile::append(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) {
    errno = open_error_;
    return file_failed("make", beside_);
  }
  while (!bytes.empty()) {
    const ssize_t put = ::write(descriptor_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return file_failed("write", beside_);
    bytes = bytes.subspan(static_cast<std::size_t>(put));
  }
  return {};
}

Result<void> NewFile::finish() {
  if (Result<void> made = append({}); !made) return made;
  if (::fsync(descriptor_) != 0) return file_failed("sync", beside_);
  if (std::rename(beside_.c_str(), path_.c_str()) != 0) return file_failed("place", path_);
  finished_ = true;
  return sync_folder(std::filesystem::path(path_).parent_path().string());
}

Result<void> write_whole_file(const std::string& path, std::string_view bytes) {
  NewFile file(path);
  if (Result<void> put = file.append(std::as_bytes(std::span(bytes))); !put) return put;
  return file.finish();
}

}  // namespace outlast::gpu
