// DiskGuard: knows whether the disk is nearly full, by asking at most each 100 ms, and keeps a
// ballast file to release.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "core/clock.hpp"
#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

struct DiskSpace {
  std::uint64_t free_bytes = 0;  // for us, without what is reserved for root
  std::uint64_t total_bytes = 0;
};
using DiskSpaceFunction = std::function<Result<DiskSpace>(const std::string& path)>;

// By statvfs(3).
Result<DiskSpace> disk_space_of(const std::string& path);

struct DiskLimits {
  std::uint64_t free_bytes_min = 0;
  double free_fraction_min = 0;
  std::uint64_t ballast_bytes = 0;
};

// Any thread.
class DiskGuard {
 public:
  static constexpr std::int64_t check_interval_ns = 100'000'000;

  // Asks once, and makes the ballast if there is room for it.
  DiskGuard(std::string path, const DiskLimits& limits, DiskSpaceFunction space,
            const Clock& clock);

  [[nodiscard]] bool full();
  // Once the disk is full: deletes the ballast. May take a while.
  void release_ballast_if_full();
  [[nodiscard]] std::uint64_t free_bytes() const {
    return free_bytes_.load(std::memory_order_relaxed);
  }

 private:
  void look();
  [[nodiscard]] std::string ballast_path() const { return path_ + "/ballast"; }

  const std::string path_;
  const DiskLimits limits_;
  const DiskSpaceFunction space_;
  const Clock& clock_;
  std::atomic<std::int64_t> next_check_ns_{0};
  std::atomic<std::uint64_t> free_bytes_{0};
  std::atomic<bool> full_{false};
  std::atomic<bool> ballast_{false};
};

}  // namespace outlast::storage
