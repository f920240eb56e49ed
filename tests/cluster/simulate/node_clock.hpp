// The clock of one node: its monotonic time has an origin of its own, and its wall clock may be wrong.
#pragma once

#include "core/clock.hpp"

namespace outlast::cluster::simulation {

class NodeClock final : public Clock {
 public:
  NodeClock(const ManualClock& world, std::int64_t origin_ns) : world_(world), origin_ns_(origin_ns) {}
  [[nodiscard]] std::int64_t monotonic_ns() const override { return world_.monotonic_ns() + origin_ns_; }
  [[nodiscard]] std::int64_t wall_ms() const override { return world_.wall_ms() + wall_shift_ms_; }
  void shift_wall_ms(std::int64_t ms) { wall_shift_ms_ += ms; }

 private:
  const ManualClock& world_;
  const std::int64_t origin_ns_;
  std::int64_t wall_shift_ms_ = 0;
};

}  // namespace outlast::cluster::simulation
