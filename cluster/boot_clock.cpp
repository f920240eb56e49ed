#include "cluster/boot_clock.hpp"

#include <ctime>

namespace outlast::cluster {

std::int64_t BootClock::monotonic_ns() const {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<std::int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

std::int64_t BootClock::wall_ms() const { return SystemClock().wall_ms(); }

}  // namespace outlast::cluster
