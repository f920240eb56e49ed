#include "gpu/gpu_error.hpp"
#include "tests/gpu/rank_threads.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/train_fixture.hpp"

namespace outlast::gpu::data_parallel_test {
namespace {

constexpr int steps = 20;

struct Outcome {
  std::vector<double> losses;
  std::vector<double> norms;
  std::vector<float> weights;
  std::string error;
  bool resumed = false;
};

// One rank's steps, from a checkpoint if there is one, and to one.
Outcome train(Collective* ranks, int count, const std::string& from = {}, const std::string& to = {}, TrainOptions options = quick(),
              const ModelConfig& config = tiny()) {
  Outcome outcome;
  const auto samples = counting(50);
  const auto device = CpuDevice::make(1);
  const auto work = [&]() -> Result<void> {
    if (!device) return fail(device.error());
    auto trainer = Trainer::make(**device, config, random_weights(config, ParameterLayout(config), 5), samples, options, ranks);
    if (!trainer) return fail(trainer.error());
    if (!from.empty()) {
      const auto resumed = (*trainer)->resume(from);
      if (!resumed) return fail(resumed.error());
      outcome.resumed = *resumed;
    }
    for (int i = 0; i < count; ++i) {
      const auto report = (*trainer)->step();
      if (!report) return fail(report.error());
      outcome.losses.push_back(report->loss);
      outcome.norms.push_back(report->gradient_norm);
    }
    if (!to.empty()) {
      if (Result<void> saved = (*trainer)->save(to); !saved) return saved;
    }
    auto weights = (*trainer)->weights();
    if (!weights) return fail(weights.error());
    outcome.weights = std::move(*weights);
    return {};
  };
  if (const Result<void> done = work(); !done) outcome.error = done.error().message;
  return outcome;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  REQUIRE(a.size() == b.size());
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - b[i]));
  return most;
}

TEST_CASE("two, three and four ranks have the loss curve of one", "[gpu][collective]") {
  const Outcome alone = train(nullptr, steps);
  const std::size_t ranks = GENERATE(1U, 2U, 3U, 4U);
  const auto outcomes = on_ranks(ranks, [](Collective& collective) { return train(&collective, steps); });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.error == "");
    CHECK(largest_difference(outcome.losses, alone.losses) < 1e-5);
    CHECK(largest_difference(outcome.norms, alone.norms) < 1e-4);
    CHECK(outcome.weights == outcomes[0].weights);
    if (ranks == 1) CHECK(outcome.losses == alone.losses);
  }
}

TEST_CASE("ranks without a sample, untied heads, biases and micro-batches change nothing", "[gpu][collective]") {
  ModelConfig config = tiny();
  TrainOptions options = quick();
  SECTION("fewer samples than ranks") { options.batch_samples = 2; }
  SECTION("an untied head") { config.tied = false; }
  SECTION("many micro-batches") { options.rows = 13; }
  SECTION("recomputation") { options.keep = Keep::inputs; }
  SECTION("a wide vocabulary") { config.vocabulary = 300; }
  const Outcome alone = train(nullptr, 8, {}, {}, options, config);
  const auto outcomes = on_ranks(3, [&](Collective& collective) { return train(&collective, 8, {}, {}, options, config); });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.error == "");
    CHECK(largest_difference(outcome.losses, alone.losses) < 1e-5);
  }
}

TEST_CASE("a run goes on from a checkpoint with another number of ranks", "[gpu][collective]") {
  const Outcome alone = train(nullptr, steps);
  const std::size_t before = GENERATE(1U, 3U);
  const std::size_t after = GENERATE(1U, 2U, 4U);
  const ScratchFolder folder;
  const auto first = on_ranks(before, [&folder](Collective& collective) { return train(&collective, 7, {}, folder.path()); });
  const auto second = on_ranks(after, [&folder](Collective& collective) { return train(&collective, steps - 7, folder.path()); });
  for (const Outcome& outcome : second) {
    CHECK(outcome.error == "");
    CHECK(outcome.resumed);
    auto losses = first[0].losses;
    losses.insert(losses.end(), outcome.losses.begin(), outcome.losses.end());
    CHECK(largest_difference(losses, alone.losses) < 1e-5);
  }
}

TEST_CASE("ranks agree when the first one has no checkpoint, or cannot read or write one", "[gpu][collective]") {
  const ScratchFolder folder;
  for (const Outcome& outcome : on_ranks(2, [&folder](Collective& collective) { return train(&collective, 1, folder.path()); })) {
    CHECK(outcome.error == "");
    CHECK_FALSE(outcome.resumed);
  }
  REQUIRE(write_whole_file(folder.path("file"), ""));
  for (const Outcome& outcome : on_ranks(2, [&folder](Collective& collective) { return train(&collective, 1, {}, folder.path("file")); }))
    CHECK(outcome.error != "");
  for (const Outcome& outcome : on_ranks(2, [&folder](Collective& collective) { return train(&collective, 1, folder.path("file")); }))
    CHECK(outcome.error != "");
}

TEST_CASE("shards of all ranks are the whole model, and a piece of it is found in them", "[gpu][collective]") {
  const ParameterLayout layout(tiny());
  const std::size_t ranks = GENERATE(1U, 2U, 3U, 5U);
  std::vector<int> owners(layout.count(), 0);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    const ShardPlan plan(layout, tiny().layers, rank, ranks);
    std::size_t end = 0;
    for (const ShardPlan::Bucket& bucket : plan.buckets()) {
      CHECK(bucket.shard == end);
      end += bucket.own.count;
      for (std::size_t i = 0; i < bucket.own.count; ++i) ++owners[bucket.own.begin + i];
    }
    CHECK(end == plan.shard_count());
    std::size_t found = 0;
    for (std::size_t begin = 0; begin < layout.count(); begin += 100) {
      for (const auto& overlap : plan.overlaps({begin, std::min<std::size_t>(100, layout.count() - begin)})) {
        CHECK(overlap.piece + overlap.count <= 100);
        found += overlap.count;
      }
    }
    CHECK(found == plan.shard_count());
  }
  CHECK(std::all_of(owners.begin(), owners.end(), [](int count) { return count == 1; }));
}

}  // namespace
}  // namespace outlast::gpu::data_parallel_test
