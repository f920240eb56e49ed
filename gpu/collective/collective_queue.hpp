// CollectiveQueue: operations that run on a thread of their own, one after the other, while the caller computes.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>

#include "gpu/collective/collective.hpp"

namespace outlast::gpu {

// One owner, who calls the collective itself only after wait(). The queue's length is its owner's number of buckets.
class CollectiveQueue {
 public:
  // `collective` outlives it.
  explicit CollectiveQueue(Collective& collective) : collective_(collective), thread_([this] { serve(); }) {}
  // Waits for the operation that runs, and drops the others.
  ~CollectiveQueue();
  CollectiveQueue(const CollectiveQueue&) = delete;
  CollectiveQueue& operator=(const CollectiveQueue&) = delete;

  // The numbers are as they should be when they are given, or the device has been asked to make them so, and not touched before wait() has returned.
  void reduce_scatter_sum(const Array& numbers) { add({&Collective::reduce_scatter_sum, numbers}); }
  void all_gather(const Array& numbers) { add({&Collective::all_gather, numbers}); }
  // Until all have run. Errors: of the first that failed; those after it did not run.
  Result<void> wait();

 private:
  struct Job {
    Result<void> (Collective::*run)(const Array&) = nullptr;
    Array numbers;
    Collective::Mark mark = {};  // of when it was given: what the device is asked for after that goes on beside it
  };
  void add(Job job);
  void serve();

  Collective& collective_;
  std::mutex mutex_;  // for what follows
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool runs_ = false;
  bool stop_ = false;
  Result<void> outcome_;
  std::thread thread_;
};

}  // namespace outlast::gpu
