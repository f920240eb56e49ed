// WakeQueue: how other threads hand things to a network thread that sleeps in poll(). An eventfd is written only when
// the thread is not awake: 32–43 ns a push against about 500 ns for an inproc socket (facts/stack.md).
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "core/check.hpp"

namespace outlast::cluster {

// push() and wake(): any thread. The rest: the network thread. Its length is bounded by those who push: credit,
// in-flight limits, one end per request.
template <class T>
class WakeQueue {
 public:
  WakeQueue() : descriptor_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    check(descriptor_ >= 0, "the process may open an eventfd");
  }
  ~WakeQueue() { ::close(descriptor_); }
  WakeQueue(const WakeQueue&) = delete;
  WakeQueue& operator=(const WakeQueue&) = delete;

  // False once closed; the item is dropped then.
  bool push(T item) {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    items_.push_back(std::move(item));
    wake_locked();
    return true;
  }
  void wake() {
    const std::lock_guard lock(mutex_);
    wake_locked();
  }

  // Readable when there is something to do.
  [[nodiscard]] int descriptor() const { return descriptor_; }
  // Moves what has arrived to `out`, which is cleared first, and counts the thread as awake.
  void take(std::vector<T>& out) {
    out.clear();
    const std::lock_guard lock(mutex_);
    out.swap(items_);
    awake_ = true;
  }
  // True when the thread may sleep: nothing has arrived since take(). The next push will wake it.
  [[nodiscard]] bool may_sleep() {
    const std::lock_guard lock(mutex_);
    if (!items_.empty() || woken_) {
      woken_ = false;
      return false;
    }
    awake_ = false;
    return true;
  }
  // After poll() reported the descriptor.
  void clear_wake_up() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto size = ::read(descriptor_, &count, sizeof count);
    const std::lock_guard lock(mutex_);
    awake_ = true;
    woken_ = false;
  }
  // Later pushes are dropped. Gives back what was left.
  std::vector<T> close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    return std::exchange(items_, {});
  }

 private:
  void wake_locked() {
    if (awake_) {
      woken_ = true;
      return;
    }
    awake_ = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto size = ::write(descriptor_, &one, sizeof one);
  }

  int descriptor_;
  std::mutex mutex_;
  std::vector<T> items_;
  bool awake_ = true;
  bool woken_ = false;  // asked for while awake: may_sleep() says no once
  bool closed_ = false;
};

}  // namespace outlast::cluster
