#include "apps/outlast-gpu-worker/worker_jobs.hpp"

#include <condition_variable>
#include <future>
#include <mutex>

#include <catch2/catch.hpp>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::worker::worker_jobs_test {
namespace {

constexpr auto deadline = std::chrono::seconds(20);

// Work that does what the test says: one "go" lets one job go on.
class Script {
 public:
  Result<void> run(const work::Start& start, JobContext& context) {
    const auto& work = std::get<work::Evaluate>(start);
    emit(context, work::EventKind::note, "begins " + work.model, {});
    std::unique_lock lock(mutex_);
    if (!went_.wait_for(lock, deadline, [this, &context] { return goes_ > 0 || context.stopping(); })) return fail(gpu::GpuError::device, "nobody said go");
    if (context.stopping()) return fail(gpu::GpuError::cancelled, "stopped");
    --goes_;
    if (work.model == "bad") return fail(gpu::GpuError::io, "it went wrong");
    return {};
  }
  void go() {
    const std::lock_guard lock(mutex_);
    ++goes_;
    went_.notify_all();
  }
  void look() { went_.notify_all(); }

 private:
  std::mutex mutex_;
  std::condition_variable went_;
  int goes_ = 0;
};

struct Table {
  explicit Table(JobLimits limits = {}) : jobs(*device, clock, [this](const work::Start& start, JobContext& context) { return script.run(start, context); }, limits) {}

  // The answer, for which it waits.
  Result<FramePtr> ask(std::uint16_t method, const Result<FramePtr>& body) {
    REQUIRE(body);
    auto answered = std::make_shared<std::promise<Result<FramePtr>>>();
    auto future = answered->get_future();
    jobs.ask(method, *body, [answered](Result<FramePtr> result) { answered->set_value(std::move(result)); });
    REQUIRE(future.wait_for(deadline) == std::future_status::ready);
    return future.get();
  }
  std::uint64_t start(const std::string& model) {
    const auto answer = ask(work::method_start, work::encode(work::Start(work::Evaluate{model, "", 1, 1})));
    REQUIRE(answer);
    return work::decode_job((*answer)->bytes())->id;
  }
  work::Events next(std::uint64_t job, std::uint64_t after, std::uint32_t wait_ms = 20'000) {
    const auto answer = ask(work::method_next, work::encode(work::Next{job, after, wait_ms}));
    REQUIRE(answer);
    return *work::decode_events((*answer)->bytes());
  }
  // All that it says until it ends.
  std::vector<work::Event> rest(std::uint64_t job) {
    std::vector<work::Event> all;
    for (work::Events events; !events.ended;) {
      events = next(job, all.size());
      all.insert(all.end(), events.events.begin(), events.events.end());
    }
    return all;
  }
  work::Status status() { return *work::decode_status((*ask(work::method_status, FramePtr()))->bytes()); }

  std::unique_ptr<gpu::CpuDevice> device = std::move(*gpu::CpuDevice::make(1));
  SystemClock clock;
  Script script;
  WorkerJobs jobs;
};

}  // namespace

TEST_CASE("jobs run one after the other and say how they ended", "[worker]") {
  Table table;
  const std::uint64_t good = table.start("good");
  const std::uint64_t bad = table.start("bad");
  CHECK(table.next(good, 0).events.front().text == "begins good");
  CHECK(table.status().running == good);
  CHECK(table.status().waiting == 1);
  table.script.go();
  table.script.go();
  const auto said = table.rest(good);
  REQUIRE(said.size() == 2);
  CHECK(said[1].kind == work::EventKind::done);
  const auto wrong = table.rest(bad);
  REQUIRE(wrong.size() == 2);
  CHECK(wrong[1].kind == work::EventKind::failed);
  CHECK(wrong[1].text == "it went wrong");
  CHECK(wrong[1].error_module == "gpu");
  CHECK(wrong[1].error_code == static_cast<std::uint16_t>(gpu::GpuError::io));
}

TEST_CASE("who asks for news waits for them, and is answered when none come", "[worker]") {
  Table table;
  const std::uint64_t job = table.start("good");
  CHECK(table.next(job, 0).events.size() == 1);
  const work::Events none = table.next(job, 1, 1);
  CHECK(none.first == 1);
  CHECK(none.events.empty());
  CHECK_FALSE(none.ended);
  auto answered = std::make_shared<std::promise<Result<FramePtr>>>();
  auto future = answered->get_future();
  table.jobs.ask(work::method_next, *work::encode(work::Next{job, 1, 20'000}), [answered](Result<FramePtr> result) { answered->set_value(std::move(result)); });
  table.script.go();
  REQUIRE(future.wait_for(deadline) == std::future_status::ready);
  const auto events = work::decode_events((*future.get())->bytes());
  REQUIRE(events);
  CHECK(events->events.front().kind == work::EventKind::done);
  CHECK(events->ended);
  CHECK(table.next(job, 0).events.size() == 2);  // nothing is forgotten so soon
}

TEST_CASE("a job is stopped while it runs and while it waits", "[worker]") {
  Table table;
  const std::uint64_t runs = table.start("runs");
  const std::uint64_t waits = table.start("waits");
  CHECK(table.next(runs, 0).events.size() == 1);
  REQUIRE(table.ask(work::method_stop, work::encode(work::Job{waits})));
  CHECK(table.rest(waits).back().error_code == static_cast<std::uint16_t>(gpu::GpuError::cancelled));
  REQUIRE(table.ask(work::method_stop, work::encode(work::Job{runs})));
  table.script.look();
  CHECK(table.rest(runs).back().text == "stopped");
}

TEST_CASE("jobs beyond their number are refused, and old ones forgotten", "[worker]") {
  JobLimits limits;
  limits.waiting_max = 1;
  limits.ended_max = 1;
  Table table(limits);
  const std::uint64_t first = table.start("a");
  CHECK(table.next(first, 0).events.size() == 1);  // it runs: the queue is empty
  const std::uint64_t second = table.start("b");
  const auto third = table.ask(work::method_start, work::encode(work::Start(work::Evaluate{"c", "", 1, 1})));
  REQUIRE_FALSE(third);
  CHECK(is(third.error(), gpu::GpuError::overloaded));
  table.script.go();
  table.script.go();
  CHECK(table.rest(second).back().kind == work::EventKind::done);
  const auto gone = table.ask(work::method_next, work::encode(work::Next{first, 0, 0}));
  REQUIRE_FALSE(gone);
  CHECK(is(gone.error(), gpu::GpuError::invalid));
}

TEST_CASE("of too many events the oldest are forgotten, and who follows is told", "[worker]") {
  JobLimits limits;
  limits.events_max = 10;
  std::unique_ptr<gpu::CpuDevice> device = std::move(*gpu::CpuDevice::make(1));
  const SystemClock clock;
  WorkerJobs jobs(*device, clock, [](const work::Start&, JobContext& context) -> Result<void> {
    for (int i = 0; i < 100; ++i) emit(context, work::EventKind::note, std::to_string(i), {});
    return {};
  }, limits);
  std::promise<std::uint64_t> started;
  jobs.ask(work::method_start, *work::encode(work::Start(work::Evaluate{"a", "", 1, 1})),
           [&started](const Result<FramePtr>& answer) { started.set_value(work::decode_job((*answer)->bytes())->id); });
  const std::uint64_t id = started.get_future().get();
  std::vector<work::Event> tail;
  std::uint64_t first = 0;
  for (work::Events events; !events.ended;) {
    std::promise<work::Events> told;
    jobs.ask(work::method_next, *work::encode(work::Next{id, first, 20'000}),
             [&told](const Result<FramePtr>& answer) { told.set_value(*work::decode_events((*answer)->bytes())); });
    events = told.get_future().get();
    CHECK(events.first >= first);
    first = events.first + events.events.size();
    if (!events.events.empty()) tail = events.events;
  }
  CHECK(first == 101);
  CHECK(tail.back().kind == work::EventKind::done);
}

TEST_CASE("what a worker does not know is refused in words", "[worker]") {
  Table table;
  const auto method = table.ask(99, FramePtr());
  REQUIRE_FALSE(method);
  CHECK(is(method.error(), gpu::GpuError::unsupported));
  const auto garbage = table.ask(work::method_start, Frame::copy_of(std::as_bytes(std::span("not a frame", 11))));
  REQUIRE_FALSE(garbage);
  CHECK(garbage.error().module == "frame");
  CHECK_FALSE(table.ask(work::method_stop, work::encode(work::Job{77})));
}

TEST_CASE("a table that ends stops what runs and answers who waits", "[worker]") {
  auto table = std::make_unique<Table>();
  const std::uint64_t job = table->start("good");
  CHECK(table->next(job, 0).events.size() == 1);
  auto answered = std::make_shared<std::promise<Result<FramePtr>>>();
  auto future = answered->get_future();
  table->jobs.ask(work::method_next, *work::encode(work::Next{job, 1, 30'000}), [answered](Result<FramePtr> result) { answered->set_value(std::move(result)); });
  REQUIRE(table->ask(work::method_stop, work::encode(work::Job{job})));
  table->script.look();
  table.reset();
  REQUIRE(future.wait_for(deadline) == std::future_status::ready);
}

}  // namespace outlast::worker::worker_jobs_test
