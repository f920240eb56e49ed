#include "apps/outlast-gpu-worker/worker_jobs.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <utility>

#include "gpu/gpu_error.hpp"

namespace outlast::worker {
namespace {

using gpu::GpuError;

constexpr std::size_t waiters_max = 256;
constexpr std::size_t answer_bytes_max = 2U << 20;  // of events in one answer

std::size_t bytes_of(const work::Event& event) {
  std::size_t bytes = sizeof event + event.text.size();
  for (const work::Figure& figure : event.figures) bytes += sizeof figure + figure.name.size();
  return bytes;
}

}  // namespace

// One job. Its events are under the table's mutex.
struct WorkerJobs::Record final : JobContext {
  Record(WorkerJobs& owner, std::uint64_t number, work::Start asked) : table(owner), id(number), work(std::move(asked)) {}

  void emit(work::Event event) override {
    const std::lock_guard lock(table.mutex_);
    add(std::move(event));
  }
  [[nodiscard]] bool stopping() const override { return stop; }
  void end(Result<void> result) override {
    const std::lock_guard lock(table.mutex_);
    table.end_job(*this, result);
  }
  std::optional<Joined> join(const std::string& model) override {
    const std::lock_guard lock(table.mutex_);
    if (table.waiting_.empty()) return std::nullopt;
    const std::shared_ptr<Record> next = table.jobs_.at(table.waiting_.front());
    const auto* const generate = std::get_if<work::Generate>(&next->work);
    if (generate == nullptr || generate->model != model) return std::nullopt;
    table.waiting_.pop_front();
    return Joined{generate, next};
  }

  // With the mutex.
  void add(work::Event event) {
    event_bytes += bytes_of(event);
    events.push_back(std::move(event));
    while (events.size() > table.limits_.events_max || (event_bytes > table.limits_.event_bytes_max && events.size() > 1)) {
      event_bytes -= bytes_of(events.front());
      events.pop_front();
      ++first;
    }
    table.tell();
  }
  void finish(const Result<void>& result) {
    if (result) add({work::EventKind::done, {}, {}, {}, 0});
    else add({work::EventKind::failed, result.error().message, {}, std::string(result.error().module), result.error().code});
    ended = true;
  }

  WorkerJobs& table;
  const std::uint64_t id;
  const work::Start work;
  std::deque<work::Event> events;
  std::uint64_t first = 0;  // number of events.front()
  std::size_t event_bytes = 0;
  bool ended = false;
  std::atomic<bool> stop{false};
};

WorkerJobs::WorkerJobs(gpu::Device& device, const Clock& clock, Runner run, JobLimits limits)
    : device_(device), clock_(clock), run_(std::move(run)), limits_(limits), memory_(device.memory()),
      answers_([this](const std::stop_token& stop) { answer_waiters(stop); }), device_thread_([this] { run_jobs(); }) {}

WorkerJobs::~WorkerJobs() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& [id, job] : jobs_) job->stop = true;
    work_came_.notify_all();
  }
  device_thread_.join();
}

void WorkerJobs::ask(std::uint16_t method, const FramePtr& body, Answer answer) {
  const std::span<const std::byte> bytes = body ? body->bytes() : std::span<const std::byte>();
  switch (method) {
    case work::method_start: {
      const auto start_of = work::decode_start(bytes);
      return start_of ? start(*start_of, answer) : answer(fail(start_of.error()));
    }
    case work::method_next: {
      const auto next_of = work::decode_next(bytes);
      return next_of ? next(*next_of, std::move(answer)) : answer(fail(next_of.error()));
    }
    case work::method_stop: {
      const auto job = work::decode_job(bytes);
      return job ? stop(*job, answer) : answer(fail(job.error()));
    }
    case work::method_status: return answer(work::encode(status()));
    default: return answer(fail(GpuError::unsupported, "this worker has no method " + std::to_string(method) + "; it is older than who asks"));
  }
}

void WorkerJobs::start(const work::Start& work, const Answer& answer) {
  std::uint64_t id = 0;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_.size() < limits_.waiting_max && !stopping_) {
      id = next_id_++;
      jobs_[id] = std::make_shared<Record>(*this, id, work);
      waiting_.push_back(id);
      work_came_.notify_all();
    }
  }
  if (id == 0) return answer(fail(GpuError::overloaded, std::to_string(limits_.waiting_max) + " jobs wait for this worker already; try again later"));
  answer(work::encode(work::Job{id}));
}

void WorkerJobs::next(const work::Next& next, Answer answer) {
  std::unique_ptr<work::Events> events;
  {
    const std::lock_guard lock(mutex_);
    if (jobs_.contains(next.job)) {
      events = events_for(next);
      if (!events && waiters_.size() < waiters_max && !stopping_) {
        waiters_.push_back({next, clock_.monotonic_ns() + std::int64_t{next.wait_ms} * 1'000'000, std::move(answer)});
        tell();
        return;
      }
      if (!events) events = std::make_unique<work::Events>(work::Events{next.after, {}, false});
    }
  }
  if (!events) return answer(fail(GpuError::invalid, "the worker knows no job " + std::to_string(next.job) + "; it may have been started again"));
  answer(work::encode(*events));
}

void WorkerJobs::stop(const work::Job& job, const Answer& answer) {
  bool known = false;
  {
    const std::lock_guard lock(mutex_);
    const auto at = jobs_.find(job.id);
    known = at != jobs_.end();
    if (known) at->second->stop = true;
    const auto waits = std::find(waiting_.begin(), waiting_.end(), job.id);
    if (known && waits != waiting_.end()) {
      waiting_.erase(waits);
      end_job(*at->second, fail(GpuError::cancelled, "stopped before it began"));
    }
  }
  if (!known) return answer(fail(GpuError::invalid, "the worker knows no job " + std::to_string(job.id)));
  answer(work::encode(job));
}

work::Status WorkerJobs::status() {
  work::Status status;
  if (const auto celsius = device_.temperature_c()) status.temperature_c = *celsius;  // a sensor may be slow: without the mutex
  const std::lock_guard lock(mutex_);
  status.memory_bytes = memory_.total_bytes;
  status.memory_free_bytes = memory_.free_bytes;
  status.running = running_;
  status.waiting = static_cast<std::uint32_t>(waiting_.size());
  status.software = "outlast " OUTLAST_VERSION;
  return status;
}

void WorkerJobs::run_jobs() {
  std::unique_lock lock(mutex_);
  while (true) {
    work_came_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    const std::uint64_t id = waiting_.front();
    waiting_.pop_front();
    const std::shared_ptr<Record> job = jobs_.at(id);
    running_ = id;
    lock.unlock();
    const Result<void> result = run_(job->work, *job);
    const gpu::DeviceMemory memory = device_.memory();
    lock.lock();
    memory_ = memory;
    running_ = 0;
    end_job(*job, result);
  }
}

void WorkerJobs::end_job(Record& job, const Result<void>& result) {
  if (job.ended) return;
  job.finish(result);
  ended_.push_back(job.id);
  while (ended_.size() > limits_.ended_max) {
    jobs_.erase(ended_.front());
    ended_.pop_front();
  }
}

void WorkerJobs::tell() {
  ++news_count_;
  news_.notify_all();
}

std::unique_ptr<work::Events> WorkerJobs::events_for(const work::Next& next) const {
  const auto at = jobs_.find(next.job);
  if (at == jobs_.end()) return std::make_unique<work::Events>(work::Events{next.after, {}, true});
  const Record& job = *at->second;
  const std::uint64_t end = job.first + job.events.size();
  const std::uint64_t from = std::clamp(next.after, job.first, end);
  if (from == end && !job.ended) return nullptr;
  auto events = std::make_unique<work::Events>();
  events->first = from;
  std::size_t bytes = 0;
  for (std::uint64_t number = from; number < end && events->events.size() < work::events_max; ++number) {
    const work::Event& event = job.events[number - job.first];
    bytes += bytes_of(event);
    if (bytes > answer_bytes_max && !events->events.empty()) break;
    events->events.push_back(event);
  }
  events->ended = job.ended && from + events->events.size() == end;
  return events;
}

void WorkerJobs::answer_waiters(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (true) {
    std::vector<std::pair<Answer, work::Events>> ready;
    const std::int64_t now = clock_.monotonic_ns();
    std::int64_t first_due = now + 1'000'000'000;
    std::erase_if(waiters_, [&](Waiter& waiter) {
      auto events = events_for(waiter.next);
      if (!events && (now >= waiter.due_ns || stop.stop_requested())) events = std::make_unique<work::Events>(work::Events{waiter.next.after, {}, false});
      if (!events) {
        first_due = std::min(first_due, waiter.due_ns);
        return false;
      }
      ready.emplace_back(std::move(waiter.answer), std::move(*events));
      return true;
    });
    if (!ready.empty()) {
      lock.unlock();
      for (const auto& [answer, events] : ready) answer(work::encode(events));
      lock.lock();
      continue;
    }
    if (stop.stop_requested()) return;
    (void)news_.wait_for(lock, stop, std::chrono::nanoseconds(first_due - now), [this, seen = news_count_] { return news_count_ != seen; });
  }
}

}  // namespace outlast::worker
