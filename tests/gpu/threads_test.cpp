#include <atomic>
#include <numeric>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/cpu/threads.hpp"

namespace outlast::gpu::threads_test {
namespace {

TEST_CASE("each item is worked on once, whatever the cut, round after round", "[gpu]") {
  for (const std::size_t count : {1U, 2U, 5U}) {
    Threads threads(count);
    REQUIRE(threads.count() <= count);
    std::vector<int> worked(1'003);
    for (int round = 1; round <= 300; ++round) {
      const std::size_t grain = 1 + static_cast<std::size_t>(round) % 700;
      threads.for_each(worked.size(), grain, [&worked](std::size_t begin, std::size_t end, std::size_t) {
        for (std::size_t i = begin; i < end; ++i) ++worked[i];
      });
    }
    CHECK(std::accumulate(worked.begin(), worked.end(), 0) == 1'003 * 300);
    CHECK(std::all_of(worked.begin(), worked.end(), [](int times) { return times == 300; }));
  }
}

TEST_CASE("ranges are of at least the grain, and of different threads", "[gpu]") {
  Threads threads(4);
  std::atomic<std::size_t> ranges = 0;
  std::atomic<unsigned> seen = 0;
  threads.for_each(10, 5, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    ++ranges;
    seen |= 1U << thread;
    if (end - begin < 5) seen |= 1U << 31;
  });
  CHECK(ranges <= 2);
  CHECK((seen & 1U << 31) == 0);
  threads.for_each(0, 1, [&](std::size_t, std::size_t, std::size_t) { ranges = 99; });
  CHECK(ranges <= 2);
}

TEST_CASE("threads that sleep end with their owner", "[gpu]") {
  for (int i = 0; i < 50; ++i) {
    Threads threads(3);
    if (i % 2 == 0) threads.for_each(3, 1, [](std::size_t, std::size_t, std::size_t) {});
  }
}

}  // namespace
}  // namespace outlast::gpu::threads_test
