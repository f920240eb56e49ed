// Time arrives through constructors, so that everything pure can run under virtual time.
#pragma once

#include <atomic>
#include <cstdint>

namespace outlast {

// Any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since an arbitrary start; never goes back.
  [[nodiscard]] virtual std::int64_t monotonic_ns() const = 0;
  // Milliseconds since 1970 UTC; may jump. Labels and billing periods only, never ordering or time-outs.
  [[nodiscard]] virtual std::int64_t wall_ms() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override;
  [[nodiscard]] std::int64_t wall_ms() const override;
};

// For tests: stands still until moved.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t monotonic_ns() const override { return monotonic_ns_; }
  [[nodiscard]] std::int64_t wall_ms() const override { return wall_ms_; }
  void advance_ms(std::int64_t ms) {
    monotonic_ns_ += ms * 1'000'000;
    wall_ms_ += ms;
  }
  void set_wall_ms(std::int64_t ms) { wall_ms_ = ms; }

 private:
  std::atomic<std::int64_t> monotonic_ns_{1'000'000'000};
  std::atomic<std::int64_t> wall_ms_{1'750'000'000'000};
};

}  // namespace outlast
