#include <barrier>

#include "core/random.hpp"
#include "gpu/gpu_error.hpp"
#include "tests/gpu/rank_threads.hpp"

namespace outlast::gpu::collective_test {
namespace {

using namespace std::chrono_literals;

std::vector<float> numbers_of_rank(std::size_t rank, std::size_t count) {
  Random random(17 * rank + count);
  std::vector<float> numbers(count);
  for (float& number : numbers) number = static_cast<float>(random.below(2'000)) - 1'000;  // sums are exact
  return numbers;
}

std::vector<float> serial_sum(std::size_t ranks, std::size_t count) {
  std::vector<float> sum(count, 0);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const auto numbers = numbers_of_rank(rank, count);
    for (std::size_t i = 0; i < count; ++i) sum[i] += numbers[i];
  }
  return sum;
}

TEST_CASE("collectives agree with a serial sum on odd sizes", "[gpu][collective]") {
  const std::size_t ranks = GENERATE(1U, 2U, 3U, 4U);
  const std::vector<std::size_t> sizes{0, 1, 63, 64, 65, 1'001, 300'007, 1'300'001};
  const auto wrong = on_ranks(ranks, [&sizes](Collective& collective) {
    std::vector<std::string> wrong;
    const std::size_t rank = collective.rank();
    const auto expect = [&](bool good, const std::string& what) {
      if (!good) wrong.push_back("rank " + std::to_string(rank) + ": " + what);
    };
    for (const std::size_t size : sizes) {
      const std::string of = " of " + std::to_string(size);
      const auto sum = serial_sum(collective.ranks(), size);
      auto numbers = numbers_of_rank(rank, size);
      expect(collective.all_reduce_sum(floats(numbers)).has_value() && numbers == sum, "sum" + of);
      numbers = numbers_of_rank(rank, size);
      expect(collective.reduce_scatter_sum(floats(numbers)).has_value(), "reduce-scatter" + of);
      const Part own = part_of(size, rank, collective.ranks());
      const auto begin = static_cast<std::ptrdiff_t>(own.begin);
      const auto end = static_cast<std::ptrdiff_t>(own.begin + own.count);
      expect(std::equal(sum.begin() + begin, sum.begin() + end, numbers.begin() + begin), "part" + of);
      expect(collective.all_gather(floats(numbers)).has_value() && numbers == sum, "all-gather" + of);
      numbers = numbers_of_rank(rank, size);
      const std::size_t root = size % collective.ranks();
      expect(collective.broadcast(floats(numbers), root).has_value() && numbers == numbers_of_rank(root, size), "broadcast" + of);
      if (collective.ranks() == 1) continue;
      const std::size_t before = (rank + collective.ranks() - 1) % collective.ranks();
      auto own_numbers = numbers_of_rank(rank, size + rank);
      std::vector<float> passed(size + before);
      expect(collective.pass_on(floats(own_numbers), floats(passed)).has_value() && passed == numbers_of_rank(before, size + before), "copy" + of);
    }
    std::vector<double> few{1, static_cast<double>(rank)};
    expect(collective.sum(few).has_value(), "sum of the host's");
    const auto all = static_cast<double>(collective.ranks());
    expect(few[0] == all && few[1] == all * (all - 1) / 2, "sum of the host's numbers");
    return wrong;
  });
  for (const auto& of_rank : wrong) CHECK(of_rank == std::vector<std::string>{});
}

TEST_CASE("parts follow each other and cover all", "[gpu][collective]") {
  for (const std::size_t count : {0U, 1U, 64U, 65U, 4'097U}) {
    for (const std::size_t ranks : {1U, 2U, 3U, 7U}) {
      std::size_t end = 0;
      for (std::size_t rank = 0; rank < ranks; ++rank) {
        const Part part = part_of(count, rank, ranks);
        CHECK((part.begin == end || part.count == 0));
        end = part.begin + part.count;
      }
      CHECK(end == count);
    }
  }
}

TEST_CASE("a rank that does not come is waited for no longer than was said", "[gpu][collective]") {
  GlooOptions options;
  options.patience = 300ms;
  std::barrier<> noticed(3);
  const auto errors = on_ranks(
      3,
      [&noticed](Collective& collective) -> std::string {
        std::string error = "none";
        std::vector<float> numbers(1'000);
        if (collective.rank() != 1) {
          const auto done = collective.all_reduce_sum(floats(numbers));
          if (!done && is(done.error(), GpuError::peer_lost)) error = "peer_lost";
        }
        noticed.arrive_and_wait();
        const auto after = collective.all_reduce_sum(floats(numbers));
        return error + (after ? ", works" : ", and no more use");
      },
      options);
  CHECK(std::count(errors.begin(), errors.end(), "peer_lost, and no more use") == 2);
  CHECK(std::count(errors.begin(), errors.end(), "none, and no more use") == 1);
}

}  // namespace
}  // namespace outlast::gpu::collective_test
