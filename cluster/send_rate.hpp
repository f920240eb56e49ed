// SendRate: whether frames come so quickly that they cost less when they go together. An estimate, without locks.
#pragma once

#include <atomic>
#include <cstdint>

namespace outlast::cluster {

// Any thread.
class SendRate {
 public:
  static constexpr std::int64_t window_ns = 1'000'000;
  static constexpr std::uint32_t many = 20;          // in a window; who waits for each answer sends about ten
  static constexpr std::int64_t burst_ns = 40'000;   // between frames of a burst

  // One more at `now_ns`. True when there are many, in this window or the one before, or another has just gone.
  bool note(std::int64_t now_ns) {
    const bool burst = now_ns - last_ns_.exchange(now_ns, std::memory_order_relaxed) < burst_ns;
    std::int64_t start_ns = start_ns_.load(std::memory_order_relaxed);
    const std::int64_t age_ns = now_ns - start_ns;
    if (age_ns >= window_ns && start_ns_.compare_exchange_strong(start_ns, now_ns, std::memory_order_relaxed)) {
      const std::uint32_t count = count_.exchange(0, std::memory_order_relaxed);
      before_.store(age_ns < 4 * window_ns ? count : 0, std::memory_order_relaxed);
    }
    const std::uint32_t count = count_.fetch_add(1, std::memory_order_relaxed) + 1;
    return burst || count > many || before_.load(std::memory_order_relaxed) > many;
  }

 private:
  std::atomic<std::int64_t> last_ns_{0};
  std::atomic<std::int64_t> start_ns_{0};
  std::atomic<std::uint32_t> count_{0};
  std::atomic<std::uint32_t> before_{0};
};

}  // namespace outlast::cluster
