// FileLock: one process at a time may have a folder open. Held until destroyed; the kernel drops it
// with the process.
#pragma once

#include <string>

#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

class FileLock {
 public:
  // Takes FOLDER/lock. Error: locked, with the holder's process id.
  static Result<FileLock> take(const std::string& folder);
  // Error `locked` when someone holds it now; takes nothing.
  static Result<void> probe(const std::string& folder);

  FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();

 private:
  explicit FileLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace outlast::storage
