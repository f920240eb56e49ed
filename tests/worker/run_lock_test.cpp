#include "apps/outlast-gpu-worker/run_lock.hpp"
#include "tests/worker/school.hpp"

namespace outlast::worker::run_lock_test {

TEST_CASE("the ranks of a run share its folder, and no other run has it until the last has gone", "[worker]") {
  const gpu::ScratchFolder scratch;
  const std::string folder = scratch.path("made/anew");
  auto first = RunLock::take(folder, "a secret");
  REQUIRE(first);
  auto second = RunLock::take(folder, "a secret");
  REQUIRE(second);
  for (const char* const run : {"", "another secret"}) {
    const auto refused = RunLock::take(folder, run);
    REQUIRE_FALSE(refused);
    CHECK(is(refused.error(), gpu::GpuError::invalid));
    CHECK(refused.error().message.find(folder + " is another run's") == 0);
  }
  first->reset();
  CHECK_FALSE(RunLock::take(folder, ""));
  second->reset();
  CHECK(std::filesystem::is_empty(folder));
  std::filesystem::remove(folder);
  auto alone = RunLock::take(folder, "");
  REQUIRE(alone);
  alone->reset();
  CHECK_FALSE(std::filesystem::exists(folder));  // who made it leaves no empty one
  alone = RunLock::take(folder, "");
  REQUIRE(alone);
  CHECK_FALSE(RunLock::take(folder, ""));
  std::ofstream(folder + "/file") << "of the run";
  alone->reset();
  CHECK(std::filesystem::exists(folder + "/file"));
  CHECK(std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()) == 1);
}

TEST_CASE("a run in another one's folder is refused, and leaves it alone", "[worker]") {
  School school;
  work::Train train = school.lesson("student", {});
  {
    const auto other = RunLock::take(train.output, "");
    REQUIRE(other);
    CHECK(says(school.refusal(train), "is another run's that goes on now"));
    CHECK_FALSE(std::filesystem::exists(train.output + "/model.safetensors"));
  }
  CHECK_FALSE(school.refusal(train));
  CHECK_FALSE(std::filesystem::exists(train.output + "/.outlast-run"));
}

}  // namespace outlast::worker::run_lock_test
