// How fast a student of ten million parameters trains on this machine's processors, and how fast OpenBLAS alone would do the matrix
// products of such a step: each thread the products of its share of the rows, with nothing between them and nobody to wait for.
#include <algorithm>
#include <cstdio>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/measuring.hpp"
#include "bench/student.hpp"
#include "gpu/cpu/blas.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/threads.hpp"
#include "gpu/model/parameters.hpp"
#include "gpu/train/trainer.hpp"

using namespace outlast;
using namespace outlast::gpu;
using bench::need;
using bench::seconds_since;
using bench::Steady;

namespace {

constexpr std::size_t sequence_tokens = 256;
constexpr std::size_t rows = 8 * sequence_tokens;  // of a step
constexpr int warm_up = 2;
constexpr int steps = 10;

double median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  return numbers[numbers.size() / 2];
}

struct Training {
  double seconds = 0;  // of a step
  double flops = 0;    // of a step
};

Training train(Device& device, const ModelConfig& config) {
  const std::vector<Sample> samples = bench::samples_of(4 * rows / sequence_tokens, sequence_tokens, config.vocabulary);
  const std::vector<float> weights = random_weights(config, ParameterLayout(config), 1);
  TrainOptions options;
  options.rows = rows;
  options.batch_samples = rows / sequence_tokens;
  options.schedule.steps = 1'000;
  const auto trainer = need(Trainer::make(device, config, weights, samples, options));
  std::vector<double> seconds;
  Training training;
  for (int step = 0; step < warm_up + steps; ++step) {
    const StepReport report = need(trainer->step());
    if (step < warm_up) continue;
    seconds.push_back(report.seconds);
    training.flops = report.flops;
  }
  training.seconds = median(std::move(seconds));
  return training;
}

// Of one matrix [outputs, inputs] with the rows of one thread: forward, gradient of the input, gradient of the weight.
struct Products {
  std::size_t inputs;
  std::size_t outputs;

  void run(const Blas& blas, std::size_t count, std::vector<float>& x, std::vector<float>& out, std::vector<float>& weight) const {
    blas.product_bt({out.data(), outputs}, {x.data(), inputs}, {weight.data(), inputs}, count, outputs, inputs);
    blas.product({x.data(), inputs}, {out.data(), outputs}, {weight.data(), inputs}, count, inputs, outputs);
    blas.product_at({weight.data(), inputs}, {out.data(), outputs}, {x.data(), inputs}, outputs, inputs, count);
  }
};

// Seconds that the matrix products of a step take.
double openblas_seconds(const ModelConfig& config) {
  const Blas& blas = *need(Blas::load());
  std::vector<Products> all;
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    all.push_back({config.hidden, config.q_width() + 2 * config.kv_width()});
    all.push_back({config.q_width(), config.hidden});
    all.push_back({config.hidden, 2 * config.intermediate});
    all.push_back({config.intermediate, config.hidden});
  }
  all.push_back({config.hidden, config.vocabulary});
  Threads threads(0);
  std::vector<double> seconds;
  struct Arrays {
    std::vector<float> x;
    std::vector<float> out;
    std::vector<float> weight;
  };
  const std::size_t widest = std::max({std::size_t{config.hidden}, std::size_t{config.intermediate}, std::size_t{config.q_width()}});
  std::vector<Arrays> arrays(threads.count());
  for (Arrays& of_thread : arrays) {
    of_thread.x.resize(rows * widest);
    of_thread.out.resize(rows * config.vocabulary);
    of_thread.weight.resize(std::max(widest * 2 * config.intermediate, std::size_t{config.vocabulary} * config.hidden));
  }
  for (int step = 0; step < warm_up + steps; ++step) {
    const auto began = Steady::now();
    threads.for_each(rows, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      for (const Products& products : all) products.run(blas, end - begin, arrays[thread].x, arrays[thread].out, arrays[thread].weight);
    });
    if (step >= warm_up) seconds.push_back(seconds_since(began));
  }
  return median(std::move(seconds));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains a student of ten million parameters on this machine's processors, and says how fast."};
  bool json = false;
  app.add_flag("--json", json, "prints one JSON object");
  CLI11_PARSE(app, argc, argv);

  const ModelConfig config = bench::student();
  const auto device = need(CpuDevice::make(0));
  const Training training = train(*device, config);
  const double blas_seconds = openblas_seconds(config);
  const double product_flops = 6.0 * static_cast<double>(config.matmul_parameters()) * rows;
  const nlohmann::json figures{{"parameters", config.parameters()},
                               {"step_s", training.seconds},
                               {"tokens_per_s", rows / training.seconds},
                               {"gflops", training.flops / training.seconds / 1e9},
                               {"openblas_step_s", blas_seconds},
                               {"openblas_gflops", product_flops / blas_seconds / 1e9},
                               {"share_of_openblas", blas_seconds / training.seconds}};
  if (json) {
    std::printf("%s\n", figures.dump().c_str());
    return 0;
  }
  std::printf("%.1f million parameters, a step of %zu tokens in sequences of %zu\n", static_cast<double>(config.parameters()) / 1e6, rows, sequence_tokens);
  std::printf("training       %8.0f tokens/s  %6.1f GFLOP/s\n", rows / training.seconds, training.flops / training.seconds / 1e9);
  std::printf("OpenBLAS alone %8.0f tokens/s  %6.1f GFLOP/s: a step takes %.2f times its products\n", rows / blas_seconds, product_flops / blas_seconds / 1e9,
              training.seconds / blas_seconds);
  return 0;
}
