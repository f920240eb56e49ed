// BootClock: the clock of leases. It runs on while the machine sleeps (CLOCK_BOOTTIME), as etcd's does elsewhere: by
// CLOCK_MONOTONIC a machine that slept for a minute would still believe in a lease that ended meanwhile.
#pragma once

#include "core/clock.hpp"

namespace outlast::cluster {

// Any thread.
class BootClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override;
  [[nodiscard]] std::int64_t wall_ms() const override;
};

}  // namespace outlast::cluster
