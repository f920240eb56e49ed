// A whole model on a CUDA device: that it learns as on a CPU, and that what it learned can be asked.
#include "gpu/train/trainer.hpp"
#include "tests/gpu/train_fixture.hpp"
#include "tests/gpu/twins.hpp"

namespace outlast::gpu::cuda_training_test {
namespace {

// Heads and widths that kernels read eight numbers at a time.
ModelConfig wider() {
  ModelConfig config = tiny();
  config.hidden = 128;
  config.intermediate = 256;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.initializer_range = 0.05;
  return config;
}

ModelConfig with_biases() {
  ModelConfig config = tiny();
  config.architecture = Architecture::qwen2;
  config.head_dim = 4;
  config.tied = false;
  return config;
}

struct Run {
  std::vector<StepReport> reports;
  EvalReport evaluation;
};

Run train(Device& device, const ModelConfig& config, int steps, Keep keep = Keep::everything) {
  const std::vector<Sample> samples = counting(50);
  TrainOptions options = quick();
  options.keep = keep;
  const auto trainer = need(Trainer::make(device, config, as_bf16(random_weights(config, ParameterLayout(config), 5)), samples, options));
  Run run;
  for (int i = 0; i < steps; ++i) run.reports.push_back(need(trainer->step()));
  run.evaluation = need(trainer->evaluate(samples));
  return run;
}

TEST_CASE("CUDA: a student's loss falls as on a CPU", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const ModelConfig config = GENERATE(tiny(), wider(), with_biases());
  CAPTURE(config.hidden, config.head_dim);
  const int steps = twins->emulated() ? 21 : 150;
  const Run cpu = train(twins->cpu(), config, steps);
  const Run cuda = train(twins->cuda(), config, steps);
  // The first step is the same sum in other roundings; later ones drift apart, and come to the same end.
  CHECK(cuda.reports.front().loss == Approx(cpu.reports.front().loss).epsilon(0.01));
  CHECK(cuda.reports.front().gradient_norm == Approx(cpu.reports.front().gradient_norm).epsilon(0.05));
  for (const std::size_t step : {5U, 10U, 20U}) {
    CAPTURE(step);
    CHECK(cuda.reports[step].loss == Approx(cpu.reports[step].loss).epsilon(0.15).margin(0.15));
  }
  CHECK(cuda.reports.back().loss < cuda.reports.front().loss);
  if (twins->emulated()) return;
  CHECK(cpu.evaluation.loss < 0.2);
  CHECK(cuda.evaluation.loss < 0.2);
  CHECK(cuda.evaluation.tokens > 0.95);
}

TEST_CASE("CUDA: the same run gives the same numbers, with what is kept and what is made again", "[gpu][cuda]") {
  Twins* const twins = Twins::find();
  if (twins == nullptr) return;
  const Run first = train(twins->cuda(), wider(), 5);
  const Run again = train(twins->cuda(), wider(), 5);
  const Run kept = train(twins->cuda(), wider(), 5, Keep::inputs);
  for (std::size_t step = 0; step < 5; ++step) {
    CAPTURE(step);
    CHECK(first.reports[step].loss == again.reports[step].loss);
    CHECK(first.reports[step].loss == kept.reports[step].loss);
  }
}

}  // namespace
}  // namespace outlast::gpu::cuda_training_test
