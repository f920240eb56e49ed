#include "storage/disk_guard.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/log.hpp"

namespace outlast::storage {

Result<DiskSpace> disk_space_of(const std::string& path) {
  struct statvfs space {};
  if (::statvfs(path.c_str(), &space) != 0) {
    return fail(LedgerError::io,
                "cannot ask for the free space of " + path + ": " + std::strerror(errno));
  }
  return DiskSpace{space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize};
}

DiskGuard::DiskGuard(std::string path, const DiskLimits& limits, DiskSpaceFunction space,
                     const Clock& clock)
    : path_(std::move(path)), limits_(limits), space_(std::move(space)), clock_(clock) {
  look();
  if (limits_.ballast_bytes == 0) return;
  const std::string file = ballast_path();
  struct stat status {};
  ballast_ = ::stat(file.c_str(), &status) == 0;
  if (ballast_ || full_) return;
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  const int failed =
      fd < 0 ? errno : ::posix_fallocate(fd, 0, static_cast<off_t>(limits_.ballast_bytes));
  if (fd >= 0) ::close(fd);
  ballast_ = failed == 0;
  if (failed == 0) return;
  ::unlink(file.c_str());
  log::warning("ledger_no_ballast", {{"file", file}, {"reason", std::strerror(failed)}});
}

void DiskGuard::look() {
  const Result<DiskSpace> space = space_(path_);
  if (!space) {
    log::error("ledger_disk_space_unknown", {{"reason", space.error().message}});
    return;
  }
  free_bytes_.store(space->free_bytes, std::memory_order_relaxed);
  const auto fraction = static_cast<std::uint64_t>(static_cast<double>(space->total_bytes) *
                                                   limits_.free_fraction_min);
  const std::uint64_t needed = std::max(limits_.free_bytes_min, fraction);
  const bool full = space->free_bytes < needed;
  if (full_.exchange(full) == full) return;
  if (full) {
    log::error("ledger_disk_full", {{"path", path_},
                                    {"free_bytes", space->free_bytes},
                                    {"needed_bytes", needed},
                                    {"effect", "new requests are refused, settlements go on"}});
  } else {
    log::info("ledger_disk_has_room", {{"path", path_}, {"free_bytes", space->free_bytes}});
  }
}

bool DiskGuard::full() {
  const std::int64_t now = clock_.monotonic_ns();
  std::int64_t next = next_check_ns_.load(std::memory_order_relaxed);
  if (now >= next && next_check_ns_.compare_exchange_strong(next, now + check_interval_ns)) look();
  return full_.load(std::memory_order_relaxed);
}

void DiskGuard::release_ballast_if_full() {
  if (!full_.load(std::memory_order_relaxed) || !ballast_.exchange(false)) return;
  ::unlink(ballast_path().c_str());
  log::warning("ledger_ballast_released", {{"bytes", limits_.ballast_bytes}});
}

}  // namespace outlast::storage
