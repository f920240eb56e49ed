// Evaluations as a worker makes them, alone and in a run.
#include <fstream>
#include <iterator>

#include "tests/worker/school.hpp"

namespace outlast::worker::evaluate_job_test {
namespace {

using work::EventKind;

std::size_t count_of(const Recorded& context, EventKind kind) {
  return static_cast<std::size_t>(std::count_if(context.events.begin(), context.events.end(), [kind](const work::Event& event) { return event.kind == kind; }));
}

// More samples than are computed at once.
std::string many(const School& school) {
  std::string lines;
  for (int i = 0; i < 8; ++i) lines += school.chat + "}\n";
  return lines;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Stopped {
  Result<void> done;
  Recorded context;
};

Stopped taught(const work::Train& train, int stops_when_asked) {
  Stopped run;
  run.context.stops_when_asked = stops_when_asked;
  const auto device = std::move(*gpu::CpuDevice::make(1));
  run.done = worker::train(train, *device, run.context, {});
  return run;
}

}  // namespace

TEST_CASE("an evaluation tells how far it is, and ends where the job is stopped", "[worker]") {
  School school;
  school.write("many.jsonl", many(school));
  const auto device = std::move(*gpu::CpuDevice::make(1));
  const work::Evaluate work{school.path("teacher"), school.path("many.jsonl"), 64, 64};
  Recorded whole;
  REQUIRE(worker::evaluate(work, *device, whole));
  REQUIRE(count_of(whole, EventKind::evaluating) > 2);
  CHECK(whole.events.front().figure("samples_done") == 0);
  CHECK(whole.events.front().figure("samples") == 8);
  CHECK(whole.events[1].figure("samples_done") > 0);
  CHECK(count_of(whole, EventKind::evaluation) == 1);
  Recorded stopped;
  stopped.stops_when_asked = 2;
  const auto done = worker::evaluate(work, *device, stopped);
  REQUIRE_FALSE(done);
  CHECK(is(done.error(), gpu::GpuError::cancelled));
  CHECK(count_of(stopped, EventKind::evaluating) == 2);
  CHECK(count_of(stopped, EventKind::evaluation) == 0);
}

TEST_CASE("a run that is stopped in an evaluation goes on with it, to the very same student", "[worker]") {
  School school;
  school.write("many.jsonl", many(school));
  work::Train train = school.lesson("whole", {});
  train.evaluation = school.path("many.jsonl");
  train.evaluate_every = 1;
  REQUIRE(taught(train, 0).done);
  train.output = school.path("stopped");
  // Once in each step, and before each of an evaluation's micro-batches.
  int asked = 3;
  std::string why = "stopped after step 1 of 3";
  SECTION("in the middle of it") {}
  SECTION("in the last evaluation") {
    train.evaluate_every = 0;
    asked = 5;
    why = "stopped after step 3 of 3";
  }
  const Stopped run = taught(train, asked);
  REQUIRE_FALSE(run.done);
  CHECK(is(run.done.error(), gpu::GpuError::cancelled));
  CHECK(run.done.error().message == why);
  CHECK(count_of(run.context, EventKind::evaluation) == 0);
  CHECK(count_of(run.context, EventKind::checkpoint) == 1);
  CHECK_FALSE(std::filesystem::exists(train.output + "/model.safetensors"));
  train.resume = true;
  const Stopped rest = taught(train, 0);
  REQUIRE(rest.done);
  CHECK(count_of(rest.context, EventKind::evaluation) == (train.evaluate_every == 0 ? 1 : 3));
  CHECK(bytes_of(train.output + "/model.safetensors") == bytes_of(school.path("whole") + "/model.safetensors"));
}

}  // namespace outlast::worker::evaluate_job_test
