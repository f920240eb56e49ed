#include <cstring>
#include <filesystem>
#include <set>

#include "gpu/gpu_error.hpp"
#include "gpu/train/trainer.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/train_run.hpp"

namespace outlast::gpu::trainer_test {
namespace {

TEST_CASE("a student learns to count", "[gpu]") {
  TrainRun run;
  const EvalReport before = need(run.trainer->evaluate(run.samples));
  run.go(150);
  const EvalReport after = need(run.trainer->evaluate(run.samples));
  CHECK(before.loss > 3);
  CHECK(before.exact < 0.1);
  CHECK(after.loss < 0.1);
  CHECK(after.exact > 0.95);
  CHECK(after.samples == 50);
}

TEST_CASE("the same run gives the same numbers, and another seed others", "[gpu]") {
  CHECK(TrainRun().go(5) == TrainRun().go(5));
  TrainOptions other = quick();
  other.seed = 2;
  CHECK(TrainRun().go(5) != TrainRun(other).go(5));
}

TEST_CASE("a run that goes on from a checkpoint is the run that never stopped, to the bit", "[gpu]") {
  const ScratchFolder folder;
  TrainRun whole;
  const auto losses = whole.go(9);
  TrainRun first;
  first.go(4);
  REQUIRE(first.trainer->save(folder.path()));
  first.go(2);  // lost with the process
  TrainRun second;
  REQUIRE(need(second.trainer->resume(folder.path())));
  CHECK(second.trainer->steps_done() == 4);
  const auto rest = second.go(5);
  CHECK(std::vector<double>(losses.begin() + 4, losses.end()) == rest);
  CHECK(need(second.trainer->weights()) == need(whole.trainer->weights()));
}

TEST_CASE("a checkpoint that was never finished is not seen, and is cleared away", "[gpu]") {
  const ScratchFolder folder;
  TrainRun run;
  CHECK_FALSE(need(run.trainer->resume(folder.path())));
  run.go(1);
  REQUIRE(run.trainer->save(folder.path()));
  run.go(1);
  REQUIRE(run.trainer->save(folder.path()));
  std::filesystem::create_directories(folder.path("step-00000009.unfinished"));
  TrainRun other;
  REQUIRE(need(other.trainer->resume(folder.path())));
  CHECK(other.trainer->steps_done() == 2);
  REQUIRE(prune_checkpoints(folder.path(), 1));
  std::set<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) left.insert(entry.path().filename().string());
  CHECK(left == std::set<std::string>{"step-00000002"});
}

TEST_CASE("a step is saved again without a moment in which it is not there", "[gpu]") {
  const ScratchFolder folder;
  TrainRun run;
  run.go(1);
  REQUIRE(run.trainer->save(folder.path()));
  REQUIRE(run.trainer->save(folder.path()));
  CHECK_FALSE(std::filesystem::exists(folder.path("step-00000001.unfinished")));
  CHECK(need(TrainRun().trainer->resume(folder.path())));
  REQUIRE(write_whole_file(folder.path("file"), ""));
  const auto unreadable = TrainRun().trainer->resume(folder.path("file"));
  REQUIRE_FALSE(unreadable);
  CHECK(is(unreadable.error(), GpuError::io));
}

TEST_CASE("samples that nobody learned from are evaluated, with or without a teacher's words", "[gpu]") {
  TrainOptions options = quick();
  options.positions = 20;
  TrainRun run(options);
  auto samples = counting(3);
  samples[0].tokens.insert(samples[0].tokens.end(), 16, 1);
  samples[0].weights.insert(samples[0].weights.end(), 16, 1.0F);
  for (const std::int32_t token : samples[1].tokens) samples[1].teacher.push_back({{token, 1, 2}, {-1, -2, -3}});
  CHECK(need(run.trainer->evaluate(samples)).samples == 3);
  samples[0].tokens.push_back(1);
  samples[0].weights.push_back(1);
  const auto long_one = run.trainer->evaluate(samples);
  REQUIRE_FALSE(long_one);
  CHECK(long_one.error().message.find("at most 20 fit") != std::string::npos);
  samples[0].tokens[0] = -1;
  CHECK_FALSE(run.trainer->evaluate(samples));
}

TEST_CASE("an evaluation asks before each micro-batch, and ends where it is told to", "[gpu]") {
  TrainRun run;
  std::vector<std::size_t> asked;
  const auto samples = counting(30);
  CHECK(need(run.trainer->evaluate(samples, [&](std::size_t done, std::size_t all) {
          CHECK(all == 30);
          asked.push_back(done);
          return true;
        })).samples == 30);
  REQUIRE(asked.size() > 2);
  CHECK(asked[0] == 0);
  CHECK(std::is_sorted(asked.begin(), asked.end()));
  const auto stopped = run.trainer->evaluate(samples, [&](std::size_t done, std::size_t) { return done < asked[1]; });
  REQUIRE_FALSE(stopped);
  CHECK(is(stopped.error(), GpuError::cancelled));
  CHECK(stopped.error().message.find("after " + std::to_string(asked[1]) + " of 30 samples") != std::string::npos);
}

TEST_CASE("an evaluation of broken weights fails", "[gpu]") {
  auto weights = weights_of(tiny());
  weights[3] = std::numeric_limits<float>::quiet_NaN();
  const auto device = need(CpuDevice::make(1));
  const auto evaluator = need(Evaluator::make(*device, tiny(), weights, tiny().vocabulary, 64, 64));
  const auto report = evaluator->evaluate(counting(30));
  REQUIRE_FALSE(report);
  CHECK(is(report.error(), GpuError::invalid));
  CHECK(report.error().message.find("its weights are broken") != std::string::npos);
}

TEST_CASE("a checkpoint of another run is refused", "[gpu]") {
  const ScratchFolder folder;
  TrainRun run;
  run.go(1);
  REQUIRE(run.trainer->save(folder.path()));
  TrainOptions other = quick();
  other.schedule.peak = 2e-2;
  const auto resumed = TrainRun(other).trainer->resume(folder.path());
  REQUIRE_FALSE(resumed);
  CHECK(is(resumed.error(), GpuError::invalid));
  CHECK(resumed.error().message.find("of a run with other settings: peak was 0.01 and is 0.02; give the same") != std::string::npos);
  ModelConfig another = tiny();
  another.positions = 65;
  const auto of_another = TrainRun(quick(), 1, weights_of(another), another).trainer->resume(folder.path());
  REQUIRE_FALSE(of_another);
  CHECK(of_another.error().message.find("of another model: max_position_embeddings was 64 and is 65") != std::string::npos);
  auto samples = counting(50);
  samples[7].tokens[0] = 1;
  auto device = need(CpuDevice::make(1));
  auto of_other_data = need(Trainer::make(*device, tiny(), random_weights(tiny(), ParameterLayout(tiny()), 5), samples, quick()));
  CHECK(of_other_data->resume(folder.path()).error().message.find("of a run with other data") != std::string::npos);
  REQUIRE(write_whole_file(folder.path("step-00000001/place.json"), "{}"));
  const auto broken = TrainRun().trainer->resume(folder.path());
  REQUIRE_FALSE(broken);
  CHECK(is(broken.error(), GpuError::malformed));
}

TEST_CASE("micro-batches, recomputation and threads change nothing but rounding", "[gpu]") {
  const auto reference = TrainRun().go(6);
  TrainOptions options = quick();
  options.rows = GENERATE(13U, 200U);
  options.keep = GENERATE(Keep::everything, Keep::inputs);
  const auto losses = TrainRun(options, GENERATE(1U, 2U, 3U)).go(6);
  for (std::size_t i = 0; i < losses.size(); ++i) CHECK(losses[i] == Approx(reference[i]).epsilon(1e-4));
}

TEST_CASE("a teacher's top tokens teach", "[gpu]") {
  TrainOptions options = quick();
  options.loss.kind = LossKind::forward_kl;
  options.schedule.steps = 120;
  auto device = need(CpuDevice::make(1));
  auto samples = counting(30);
  for (Sample& sample : samples) {
    for (const std::int32_t token : sample.tokens) sample.teacher.push_back({{token, (token + 1) % 40}, {std::log(0.9F), std::log(0.05F)}});
  }
  const ModelConfig config = tiny();
  auto trainer = need(Trainer::make(*device, config, random_weights(config, ParameterLayout(config), 5), samples, options));
  double loss = 0;
  for (int i = 0; i < 120; ++i) loss = need(trainer->step()).loss;
  CHECK(loss < 0.1);
  CHECK(need(trainer->evaluate(samples)).exact > 0.9);
}

TEST_CASE("a run that does not fit is refused with what would", "[gpu]") {
  auto device = need(CpuDevice::make(1));
  ModelConfig config = tiny();
  config.hidden = 1U << 19;
  config.intermediate = 1U << 19;
  const auto refused = check_fits(config, quick(), 64, 0, *device);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), GpuError::too_large));
  CHECK(refused.error().message.find("a smaller model fits") != std::string::npos);
  TrainOptions wide = quick();
  wide.rows = 1U << 27;
  const auto narrower = check_fits(tiny(), wide, 64, 0, *device);
  REQUIRE_FALSE(narrower);
  CHECK(narrower.error().message.find("it fits with recomputation") != std::string::npos);
}

TEST_CASE("what cannot be learned from is refused", "[gpu]") {
  auto device = need(CpuDevice::make(1));
  const ModelConfig config = tiny();
  const auto weights = random_weights(config, ParameterLayout(config), 5);
  const auto make = [&](const std::vector<Sample>& samples, const TrainOptions& options) {
    const auto made = Trainer::make(*device, config, weights, samples, options);
    REQUIRE_FALSE(made);
    return made.error().message;
  };
  CHECK(make({}, quick()).find("no samples") != std::string::npos);
  auto samples = counting(3);
  samples[1].tokens[0] = 40;
  CHECK(make(samples, quick()).find("sample 2 has a token that the model's 40 do not have") != std::string::npos);
  TrainOptions narrow = quick();
  narrow.rows = 4;
  CHECK(make(counting(3), narrow).find("at most 4 fit") != std::string::npos);
  TrainOptions more = quick();
  more.tokens = 41;
  CHECK(make(counting(3), more).find("the tokenizer has 41 tokens and the model 40") != std::string::npos);
  more.tokens = 20;
  CHECK(make(counting(9), more).find("model's 20") != std::string::npos);
  more.tokens = 0;
  more.loss.temperature = 0;
  CHECK(make(counting(3), more).find("temperature") != std::string::npos);
  samples = counting(3);
  samples[2].weights.pop_back();
  CHECK(make(samples, quick()).find("sample 3 has not a weight") != std::string::npos);
  samples = counting(3);
  samples[0].teacher.resize(samples[0].tokens.size());
  samples[0].teacher[3] = {{1, 2}, {-1}};
  CHECK(make(samples, quick()).find("without its probability") != std::string::npos);
  samples = counting(3);
  std::fill(samples[1].weights.begin(), samples[1].weights.end(), 0.0F);
  CHECK(make(samples, quick()).find("sample 2 has nothing to learn") != std::string::npos);
}

TEST_CASE("a loss that is no number stops the run before the weights follow it", "[gpu]") {
  auto device = need(CpuDevice::make(1));
  const ModelConfig config = tiny();
  auto weights = random_weights(config, ParameterLayout(config), 5);
  weights[3] = NAN;
  const auto samples = counting(10);
  auto trainer = need(Trainer::make(*device, config, weights, samples, quick()));
  const auto step = trainer->step();
  REQUIRE_FALSE(step);
  CHECK(is(step.error(), GpuError::invalid));
  CHECK(trainer->steps_done() == 0);
  const auto after = need(trainer->weights());
  CHECK(std::memcmp(after.data(), weights.data(), weights.size() * sizeof(float)) == 0);
}

TEST_CASE("every epoch has each sample once, in an order of its own", "[gpu]") {
  for (const std::uint64_t samples : {1U, 2U, 3U, 50U, 1'000U}) {
    const DataOrder order(samples, 3);
    std::vector<std::uint64_t> first;
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::uint64_t> seen;
      for (std::uint64_t i = 0; i < samples; ++i) seen.push_back(order.sample_at(epoch * samples + i));
      if (epoch == 0) first = seen;
      else if (samples > 10) CHECK(seen != first);
      std::sort(seen.begin(), seen.end());
      for (std::uint64_t i = 0; i < samples; ++i) CHECK(seen[i] == i);
    }
  }
}

TEST_CASE("rates rise, stay and fall as scheduled", "[gpu]") {
  Schedule schedule;
  schedule.peak = 1;
  schedule.least_share = 0.1;
  schedule.warm_up_steps = 10;
  schedule.steps = 110;
  schedule.kind = ScheduleKind::constant;
  CHECK(rate_at(schedule, 5) == Approx(0.5));
  CHECK(rate_at(schedule, 110) == 1);
  schedule.kind = ScheduleKind::cosine;
  CHECK(rate_at(schedule, 10) == Approx(1));
  CHECK(rate_at(schedule, 60) == Approx(0.55));
  CHECK(rate_at(schedule, 110) == Approx(0.1));
  schedule.kind = ScheduleKind::warm_up_stable_decay;
  schedule.decay_steps = 20;
  CHECK(rate_at(schedule, 90) == 1);
  CHECK(rate_at(schedule, 100) == Approx(0.55));
  CHECK(rate_at(schedule, 110) == Approx(0.1));
  CHECK(parse_schedule("wsd") == ScheduleKind::warm_up_stable_decay);
  CHECK_FALSE(parse_schedule("linear"));
}

TEST_CASE("samples are packed side by side, and no further than fits", "[gpu]") {
  const auto samples = counting(5);  // of 4, 5, 6, 7 and 8 tokens
  std::vector<const Sample*> all;
  for (const Sample& sample : samples) all.push_back(&sample);
  const auto batches = pack(all, 15, 0.5F);
  REQUIRE(batches.size() == 2);
  CHECK(batches[0].begins == std::vector<std::int32_t>{0, 4, 9, 15});
  CHECK(batches[0].positions[9] == 0);
  CHECK(batches[0].longest == 6);
  CHECK(batches[1].samples == std::vector<std::size_t>{3, 4});
  CHECK(batches[0].loss_rows == std::vector<std::int32_t>{1, 2, 5, 6, 7, 11, 12, 13});
  CHECK(batches[0].targets[0] == batches[0].tokens[2]);
  CHECK(batches[0].weights[0] == 0.5F);
}

}  // namespace
}  // namespace outlast::gpu::trainer_test
