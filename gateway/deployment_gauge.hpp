// DeploymentGauge: what every lane must know of a deployment at once: its health, as its provider actor published it,
// and how many requests are under way. Atomics; any thread. Kept across reloads by the deployment's name.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "gateway/breaker.hpp"

namespace outlast::gateway {

class DeploymentGauge {
 public:
  explicit DeploymentGauge(std::string name) : name_(std::move(name)) {}

  [[nodiscard]] const std::string& name() const { return name_; }

  // The provider actor, and no one else.
  void publish(const Breaker& breaker) {
    open_until_ns_.store(breaker.is_closed() ? closed : breaker.open_until_ns(), std::memory_order_relaxed);
    consecutive_failures_.store(breaker.consecutive_failures(), std::memory_order_relaxed);
  }
  // The provider actor, when the probe's outcome has come.
  void release_probe() { probe_taken_.store(false, std::memory_order_relaxed); }

  // The router, when commitments or their use changed: whether one that the deployment draws from is behind its pace.
  void publish_burning(bool burning) { burning_.store(burning, std::memory_order_relaxed); }

  // Lanes.
  [[nodiscard]] bool burning() const { return burning_.load(std::memory_order_relaxed); }
  [[nodiscard]] BreakerState state(std::int64_t now_ns) const {
    const std::int64_t until = open_until_ns_.load(std::memory_order_relaxed);
    if (until == closed) return BreakerState::closed;
    return now_ns < until ? BreakerState::open : BreakerState::half_open;
  }
  [[nodiscard]] std::int64_t open_until_ns() const { return open_until_ns_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool probe_free() const { return !probe_taken_.load(std::memory_order_relaxed); }
  [[nodiscard]] bool take_probe() { return !probe_taken_.exchange(true, std::memory_order_relaxed); }
  // False when `max` (0: no limit) are under way already.
  [[nodiscard]] bool enter(std::uint32_t max) {
    const std::uint32_t before = in_flight_.fetch_add(1, std::memory_order_relaxed);
    if (max == 0 || before < max) return true;
    leave();
    return false;
  }
  void leave() { in_flight_.fetch_sub(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t in_flight() const { return in_flight_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint32_t consecutive_failures() const {
    return consecutive_failures_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr std::int64_t closed = std::numeric_limits<std::int64_t>::min();

  std::string name_;
  std::atomic<std::int64_t> open_until_ns_{closed};
  std::atomic<std::uint32_t> consecutive_failures_{0};
  std::atomic<std::uint32_t> in_flight_{0};
  std::atomic<bool> probe_taken_{false};
  std::atomic<bool> burning_{false};
};

}  // namespace outlast::gateway
