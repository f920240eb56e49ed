#include "storage/commit_queue.hpp"

#include <algorithm>

namespace outlast::storage {

// What ends a request finds room when new requests do not any more; there is only so much of it.
std::size_t CommitQueue::limit_of(const Submission& submission) const {
  if (submission.farewell != nullptr) return SIZE_MAX;
  const bool begins =
      submission.control == nullptr && std::holds_alternative<Reservation>(submission.operation);
  return begins ? operations_max_ : 2 * operations_max_;
}

bool CommitQueue::wakes(bool urgent) const {
  switch (waiting_) {
    case Waiting::no: return false;
    case Waiting::idle: return true;
    case Waiting::lazy: return urgent || operations_.size() == paced_batch_operations;
    case Waiting::paced: return operations_.size() == paced_batch_operations;
  }
  return true;
}

Result<void> CommitQueue::push(Submission&& submission, bool urgent) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return fail(LedgerError::stopped, "the ledger is stopping");
    if (operations_.size() >= limit_of(submission)) {
      return fail(LedgerError::overloaded, "the ledger has " + std::to_string(operations_.size()) +
                                               " operations waiting for the disk; try again later");
    }
    operations_.push_back(std::move(submission));
    urgent_ = urgent_ || urgent;
    wake = wakes(urgent);
    if (wake) waiting_ = Waiting::no;  // one wake-up is enough
  }
  if (wake) arrived_.notify_one();
  return {};
}

void CommitQueue::measure(Time now) {
  const auto window = now - window_start_;
  if (window < rate_window) return;
  const double rate =
      static_cast<double>(window_operations_) / std::chrono::duration<double>(window).count();
  const double share = (rate - paced_from_operations_per_s) /
                       (slowest_from_operations_per_s - paced_from_operations_per_s);
  pace_ = std::chrono::microseconds(static_cast<std::int64_t>(
      std::clamp(share, 0.0, 1.0) * static_cast<double>(pace_max.count())));
  window_start_ = now;
  window_operations_ = 0;
}

void CommitQueue::hasten() {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    if (urgent_ || operations_.empty()) return;  // already, or under way
    urgent_ = true;
    wake = waiting_ == Waiting::lazy;
    if (wake) waiting_ = Waiting::no;
  }
  if (wake) arrived_.notify_one();
}

bool CommitQueue::take(std::vector<Submission>& batch) {
  std::unique_lock lock(mutex_);
  Time now = std::chrono::steady_clock::now();
  oldest_ = {};
  while (!stopped_) {
    if (operations_.empty()) {
      waiting_ = Waiting::idle;
      arrived_.wait(lock);
      now = std::chrono::steady_clock::now();
      continue;
    }
    if (oldest_ == Time{}) oldest_ = now;
    const bool paced = urgent_ || pace_ == pace_max;
    const Time due = paced ? last_take_ + pace_ : oldest_ + lazy_;
    if (now >= due || operations_.size() >= paced_batch_operations) break;
    waiting_ = paced ? Waiting::paced : Waiting::lazy;
    arrived_.wait_until(lock, due);
    now = std::chrono::steady_clock::now();
  }
  waiting_ = Waiting::no;
  std::swap(batch, operations_);
  if (operations_.capacity() > kept_capacity && batch.size() < kept_capacity / 2) {
    operations_ = std::vector<Submission>();
  }
  urgent_ = false;
  last_take_ = now;
  window_operations_ += batch.size();
  measure(now);
  return !batch.empty();
}

void CommitQueue::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  arrived_.notify_one();
}

std::size_t CommitQueue::size() const {
  const std::lock_guard lock(mutex_);
  return operations_.size();
}

}  // namespace outlast::storage
