#include "gpu/collective/collective_queue.hpp"

#include <utility>

namespace outlast::gpu {

CollectiveQueue::~CollectiveQueue() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    jobs_.clear();
  }
  changed_.notify_all();
  thread_.join();
}

void CollectiveQueue::add(Job job) {
  job.mark = collective_.mark();
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  changed_.notify_all();
}

Result<void> CollectiveQueue::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return jobs_.empty() && !runs_; });
  return std::exchange(outcome_, {});
}

void CollectiveQueue::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    runs_ = true;
    lock.unlock();
    collective_.begin_after(job.mark);
    Result<void> outcome = (collective_.*job.run)(job.numbers);
    lock.lock();
    runs_ = false;
    if (!outcome) {
      outcome_ = std::move(outcome);
      jobs_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace outlast::gpu
