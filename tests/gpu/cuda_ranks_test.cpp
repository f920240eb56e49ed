// Ranks on CUDA devices, by NCCL: as many as there are devices; an emulated machine has four.
#include <array>

#include "gpu/gpu_error.hpp"
#include "gpu/train/trainer.hpp"
#include "tests/gpu/rank_threads.hpp"
#include "tests/gpu/train_fixture.hpp"
#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_ranks_test {
namespace {

constexpr std::size_t ranks_max = 4;
constexpr std::chrono::seconds patience{60};

// Each rank has the device of its number.
struct CudaRanks {
  std::array<std::unique_ptr<Device>, ranks_max> devices;
  Result<std::unique_ptr<Collective>> operator()(Rendezvous& rendezvous, const Generation& generation) {
    auto& device = devices[generation.rank];
    if (!device) {
      auto made = make_cuda_device(static_cast<int>(generation.rank));
      if (!made) return fail(made.error());
      device = std::move(*made);
    }
    return make_nccl_collective(*device, rendezvous, generation, patience);
  }
};

// False, and said, where so many devices or NCCL are missing.
bool can_have(std::size_t ranks) {
  if (Twins::find() == nullptr) return false;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    if (const auto device = make_cuda_device(static_cast<int>(rank)); !device) {
      std::cerr << "skipped: " << ranks << " ranks: " << device.error().message << '\n';
      return false;
    }
  }
  return true;
}

// Numbers on a device, for threads that may not use Catch's checks.
class OnDevice {
 public:
  OnDevice(Device& device, const std::vector<float>& numbers) : device_(device) {
    auto memory = device.allocate(numbers.size(), Dtype::f32);
    if (!memory) throw std::runtime_error(memory.error().message);
    memory_ = std::move(*memory);
    device.upload(array(), std::as_bytes(std::span(numbers)));
  }
  [[nodiscard]] Array array() const { return memory_->array(); }
  [[nodiscard]] std::vector<float> numbers() const { return numbers_of<float>(device_, array()).value_or(std::vector<float>{}); }

 private:
  Device& device_;
  std::unique_ptr<Memory> memory_;
};

TEST_CASE("CUDA: collectives agree with a serial sum on odd sizes", "[gpu][cuda][collective]") {
  const std::size_t ranks = GENERATE(1U, 2U, 3U, 4U);
  if (!can_have(ranks)) return;
  CudaRanks cuda;
  const std::vector<std::size_t> sizes{0, 1, 63, 64, 65, 768, 1'001, 30'007};
  const auto wrong = on_ranks_by(std::ref(cuda), ranks, [&](Collective& collective) {
    std::vector<std::string> wrong;
    const std::size_t rank = collective.rank();
    Device& device = *cuda.devices[rank];
    const auto expect = [&](bool good, const std::string& what) {
      if (!good) wrong.push_back("rank " + std::to_string(rank) + ": " + what);
    };
    for (const std::size_t size : sizes) {
      const std::string of = " of " + std::to_string(size);
      const auto sum = serial_sum(ranks, size);
      const OnDevice summed(device, numbers_of_rank(rank, size));
      expect(collective.all_reduce_sum(summed.array()).has_value() && summed.numbers() == sum, "sum" + of);
      const OnDevice scattered(device, numbers_of_rank(rank, size));
      expect(collective.reduce_scatter_sum(scattered.array()).has_value(), "reduce-scatter" + of);
      const Part own = part_of(size, rank, ranks);
      const auto begin = static_cast<std::ptrdiff_t>(own.begin);
      const auto end = static_cast<std::ptrdiff_t>(own.begin + own.count);
      const auto parts = scattered.numbers();
      expect(std::equal(sum.begin() + begin, sum.begin() + end, parts.begin() + begin), "part" + of);
      expect(collective.all_gather(scattered.array()).has_value() && scattered.numbers() == sum, "all-gather" + of);
      const OnDevice given(device, numbers_of_rank(rank, size));
      const std::size_t root = size % ranks;
      expect(collective.broadcast(given.array(), root).has_value() && given.numbers() == numbers_of_rank(root, size), "broadcast" + of);
      if (ranks == 1) continue;
      const std::size_t before = (rank + ranks - 1) % ranks;
      const OnDevice to_next(device, numbers_of_rank(rank, size + rank));
      const OnDevice passed(device, std::vector<float>(size + before));
      expect(collective.pass_on(to_next.array(), passed.array()).has_value() && passed.numbers() == numbers_of_rank(before, size + before), "copy" + of);
    }
    std::vector<double> few{1, static_cast<double>(rank)};
    few.resize(3'000, 0.5);
    expect(collective.sum(few).has_value(), "sum of the host's");
    const auto all = static_cast<double>(ranks);
    expect(few[0] == all && few[1] == all * (all - 1) / 2 && few.back() == all / 2, "sum of the host's numbers");
    return wrong;
  });
  for (const auto& of_rank : wrong) CHECK(of_rank == std::vector<std::string>{});
}

TEST_CASE("CUDA: an operation goes on beside what the device was asked for after its mark", "[gpu][cuda][collective]") {
  if (!can_have(1)) return;
  CudaRanks cuda;
  const auto wrong = on_ranks_by(std::ref(cuda), 1, [&](Collective& collective) {
    std::vector<std::string> wrong;
    Device& device = *cuda.devices[0];
    const bool is_emulated = device.name().find("emulated") != std::string::npos;  // whose memory is the host's, and whose streams wait to be waited for
    const OnDevice summed(device, {1, 2, 3});
    const OnDevice later(device, {4});
    if (later.numbers() != std::vector<float>{4}) wrong.emplace_back("upload");
    const auto mark = collective.mark();
    if (!mark) wrong.emplace_back("no mark");
    device.fill_zero(later.array());
    collective.begin_after(mark);
    if (!collective.all_reduce_sum(summed.array())) wrong.emplace_back("sum");
    if (is_emulated && *static_cast<const float*>(later.array().data) != 4) wrong.emplace_back("it waited for more");
    if (!collective.all_reduce_sum(summed.array())) wrong.emplace_back("sum without a mark");
    if (is_emulated && *static_cast<const float*>(later.array().data) != 0) wrong.emplace_back("it did not wait for all");
    if (summed.numbers() != std::vector<float>{1, 2, 3} || later.numbers() != std::vector<float>{0}) wrong.emplace_back("numbers");
    return wrong;
  });
  for (const auto& of_rank : wrong) CHECK(of_rank == std::vector<std::string>{});
}

TEST_CASE("CUDA: two, three and four ranks have the loss curve of one", "[gpu][cuda][collective]") {
  const std::size_t ranks = GENERATE(2U, 3U, 4U);
  if (!can_have(ranks)) return;
  constexpr int steps = 8;
  const std::vector<Sample> samples = counting(50);
  const ModelConfig config = tiny();
  const auto weights = as_bf16(random_weights(config, ParameterLayout(config), 5));
  struct Outcome {
    std::vector<double> losses;
    std::vector<float> weights;
    std::string error;
  };
  const auto train = [&](Device& device, Collective* collective) {
    Outcome outcome;
    const auto work = [&]() -> Result<void> {
      const auto trainer = Trainer::make(device, config, weights, samples, quick(), collective);
      if (!trainer) return fail(trainer.error());
      for (int i = 0; i < steps; ++i) {
        const auto report = (*trainer)->step();
        if (!report) return fail(report.error());
        outcome.losses.push_back(report->loss);
      }
      auto learned = (*trainer)->weights();
      if (!learned) return fail(learned.error());
      outcome.weights = std::move(*learned);
      return {};
    };
    if (const Result<void> done = work(); !done) outcome.error = done.error().message;
    return outcome;
  };
  const Outcome alone = train(Twins::find()->cuda(), nullptr);
  CudaRanks cuda;
  const auto outcomes = on_ranks_by(std::ref(cuda), ranks, [&](Collective& collective) { return train(*cuda.devices[collective.rank()], &collective); });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.error == "");
    CHECK(outcome.weights == outcomes[0].weights);
    REQUIRE(outcome.losses.size() == alone.losses.size());
    // A rank has other rows in a micro-batch, and weights in use are rounded to bf16.
    for (int i = 0; i < steps; ++i) CHECK(outcome.losses[i] == Approx(alone.losses[i]).epsilon(0.01));
  }
}

TEST_CASE("CUDA: who waits for a rank that is gone hears of it", "[gpu][cuda][collective]") {
  if (!can_have(3)) return;
  CudaRanks cuda;
  const auto server = need(RendezvousServer::make("127.0.0.1", 0, roll_of(3)));
  std::vector<std::future<std::string>> running;
  for (std::size_t i = 0; i < 3; ++i) {
    running.push_back(std::async(std::launch::async, [&]() -> std::string {
      auto client = RendezvousClient::make("127.0.0.1", server->port(), run_of_tests);
      if (!client) return client.error().message;
      const auto generation = (*client)->join(rank_patience);
      if (!generation) return generation.error().message;
      const auto collective = cuda(**client, *generation);
      if (!collective) return collective.error().message;
      const OnDevice numbers(*cuda.devices[generation->rank], std::vector<float>(1'000, 1));
      if (const auto first = (*collective)->all_reduce_sum(numbers.array()); !first) return first.error().message;
      if (generation->rank == 2) return "gone";
      const auto second = (*collective)->all_reduce_sum(numbers.array());
      const auto third = (*collective)->all_gather(numbers.array());
      return second || third || !is(second.error(), GpuError::peer_lost) || !is(third.error(), GpuError::peer_lost) ? "works" : "heard";
    }));
  }
  std::vector<std::string> heard;
  for (auto& one : running) heard.push_back(one.get());
  std::sort(heard.begin(), heard.end());
  CHECK(heard == std::vector<std::string>{"gone", "heard", "heard"});
}

TEST_CASE("CUDA: two ranks on one device are refused", "[gpu][cuda][collective]") {
  if (!can_have(1)) return;
  std::array<std::unique_ptr<Device>, 2> devices{need(make_cuda_device(0)), need(make_cuda_device(0))};
  const auto server = need(RendezvousServer::make("127.0.0.1", 0, roll_of(2)));
  std::vector<std::future<bool>> running;
  for (std::size_t i = 0; i < 2; ++i) {
    running.push_back(std::async(std::launch::async, [&] {
      const auto client = RendezvousClient::make("127.0.0.1", server->port(), run_of_tests);
      if (!client) return false;
      const auto generation = (*client)->join(rank_patience);
      if (!generation) return false;
      return make_nccl_collective(*devices[generation->rank], **client, *generation, std::chrono::seconds(2)).has_value();
    }));
  }
  for (auto& one : running) CHECK_FALSE(one.get());
}

}  // namespace
}  // namespace outlast::gpu::cuda_ranks_test
