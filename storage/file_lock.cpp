#include "storage/file_lock.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace outlast::storage {
namespace {

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

Failure locked(const std::string& folder, int fd) {
  char text[32] = {};
  const ssize_t size = ::pread(fd, text, sizeof(text) - 1, 0);
  const std::string pid(text, size > 0 ? static_cast<std::size_t>(size) : 0);
  return fail(LedgerError::locked, folder + " is open in another process" +
                                       (pid.empty() ? "" : " (pid " + pid + ")") +
                                       "; stop it, or give this one a data folder of its own");
}

}  // namespace

Result<FileLock> FileLock::take(const std::string& folder) {
  const std::string path = folder + "/lock";
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail(LedgerError::io, "cannot open " + path + ": " + std::strerror(errno));
  FileLock held(fd);
  // Of the open file, not of the process: a second open in this process is refused as well.
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    if (errno == EAGAIN || errno == EACCES) return locked(folder, fd);
    return fail(LedgerError::io, "cannot lock " + path + ": " + std::strerror(errno));
  }
  const std::string pid = std::to_string(::getpid());
  // For people only: a failure to write it changes nothing.
  if (::ftruncate(fd, 0) == 0 && ::pwrite(fd, pid.data(), pid.size(), 0) < 0) errno = 0;
  return held;
}

Result<void> FileLock::probe(const std::string& folder) {
  const std::string path = folder + "/lock";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const FileLock file(fd);
  struct flock lock = whole_file(F_WRLCK);
  if (::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK) return locked(folder, fd);
  return {};
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace outlast::storage
