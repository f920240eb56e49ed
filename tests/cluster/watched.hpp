// Watched: what one thread changes and another waits for, with a deadline.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace outlast::test {

class Watched {
 public:
  static constexpr auto patience = std::chrono::seconds(30);

  template <class Change>
  void change(const Change& change) {
    const std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  // Whether it holds in time; asked under the lock.
  template <class Holds>
  bool wait(const Holds& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, holds);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace outlast::test
