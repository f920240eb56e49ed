// WorkerJobs: what a worker was asked to do and what came of it. One job is at work at a time, on the device's own thread, and with
// it those that generate with the same model; the others wait in the order in which they came.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "apps/outlast-gpu-worker/job.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "gpu/device.hpp"
#include "proto/work_codec.hpp"

namespace outlast::worker {

struct JobLimits {
  std::size_t waiting_max = 64;
  std::size_t ended_max = 64;          // jobs that have ended and are remembered
  std::size_t events_max = 16'384;     // of one job; older ones are forgotten
  std::size_t event_bytes_max = 16U << 20;
};

// Any thread.
class WorkerJobs {
 public:
  using Answer = std::function<void(Result<FramePtr>)>;
  using Runner = std::function<Result<void>(const work::Start&, JobContext&)>;

  // `device` (for its memory) and `clock` outlive it; `run` does the work, on one thread. A job ends with what it returns, where it
  // has not been ended before.
  WorkerJobs(gpu::Device& device, const Clock& clock, Runner run, JobLimits limits = {});
  // Stops what runs and waits for it.
  ~WorkerJobs();
  WorkerJobs(const WorkerJobs&) = delete;
  WorkerJobs& operator=(const WorkerJobs&) = delete;

  // By the methods of work_codec.hpp. Never blocks; the answer comes on any thread, or before it returns. Errors of the answer:
  // FrameError; GpuError (invalid: no such method or job; overloaded).
  void ask(std::uint16_t method, const FramePtr& body, Answer answer);

 private:
  struct Record;
  struct Waiter {
    work::Next next;
    std::int64_t due_ns = 0;
    Answer answer;
  };

  void start(const work::Start& work, const Answer& answer);
  void next(const work::Next& next, Answer answer);
  void stop(const work::Job& job, const Answer& answer);
  [[nodiscard]] work::Status status();
  void run_jobs();
  void answer_waiters(const std::stop_token& stop);
  // With the mutex: what a waiter would get now; null while it should wait.
  [[nodiscard]] std::unique_ptr<work::Events> events_for(const work::Next& next) const;
  void end_job(Record& job, const Result<void>& result);  // with the mutex; a job ends once
  void tell();  // that there are new events or waiters; with the mutex

  gpu::Device& device_;
  const Clock& clock_;
  const Runner run_;
  const JobLimits limits_;
  std::mutex mutex_;
  std::condition_variable work_came_;
  std::condition_variable_any news_;
  std::uint64_t news_count_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Record>> jobs_;
  std::deque<std::uint64_t> waiting_;
  std::deque<std::uint64_t> ended_;
  std::vector<Waiter> waiters_;
  std::uint64_t next_id_ = 1;
  std::uint64_t running_ = 0;
  gpu::DeviceMemory memory_;  // as it was when nothing ran: a device has one owner at a time
  bool stopping_ = false;
  std::jthread answers_;
  std::thread device_thread_;
};

}  // namespace outlast::worker
