// LoRA: the adapter's mathematics in the decoder, its runs, and its files.
#include <cmath>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "gpu/gpu_error.hpp"
#include "gpu/model/lora_adapter.hpp"
#include "gpu/train/trainer.hpp"
#include "tests/gpu/finite_differences.hpp"
#include "tests/gpu/rank_threads.hpp"
#include "tests/gpu/scratch_folder.hpp"
#include "tests/gpu/train_run.hpp"

namespace outlast::gpu::lora_test {
namespace {

LoraOptions some_lora() {
  LoraOptions lora;
  lora.rank = 4;
  lora.alpha = 6;
  return lora;
}

LoraOptions only(LoraTarget target) {
  LoraOptions lora = some_lora();
  lora.targets = {};
  lora.targets[static_cast<std::size_t>(target)] = true;
  return lora;
}

// An adapter that says something: neither of its matrices is zero.
std::vector<float> some_adapter(const ModelConfig& config, const LoraOptions& lora) {
  const ParameterLayout layout(config, lora);
  auto numbers = random_adapter(config, lora, 3);
  for (const Parameter& parameter : layout.parameters()) {
    if (parameter.name.ends_with(".lora_B.weight")) fill_normal(std::span(numbers).subspan(parameter.offset, parameter.count), 4, parameter.offset, 0.2F);
  }
  return numbers;
}

// A decoder with weights, an adapter, and two sequences.
struct Adapted {
  Adapted(const ModelConfig& model, const LoraOptions& options, const std::vector<float>& weights, const std::vector<float>& numbers, Keep keep = Keep::everything)
      : config(model), lora(options), frozen(*device, weights), adapter(*device, numbers) {
    batch.loss.tokens = config.vocabulary;
    DecoderLimits limits;
    limits.rows = batch.batch.tokens.count;
    limits.loss_rows = limits.rows;
    limits.chunk_rows = 5;
    limits.positions = 16;
    limits.keep = keep;
    limits.lora = lora;
    decoder = need(Decoder::make(*device, config, limits));
  }
  DecoderWeights weights() const { return view_adapter(config, lora, layout, adapter, view_weights(config, ParameterLayout(config), frozen)); }
  std::vector<float> logits() {
    const Array states = decoder->forward(weights(), batch.batch);
    const Loaded logits(*device, std::vector<float>(batch.batch.tokens.count * config.vocabulary));
    device->run(Linear{logits, states, weights().head, {}, config.hidden, config.vocabulary});
    return numbers_of(logits);
  }
  std::vector<float> gradients() {
    const Loaded gradients(*device, std::vector<float>(layout.count()));
    decoder->loss_and_gradients(weights(), view_adapter(config, lora, layout, gradients), batch.batch, batch.loss);
    return numbers_of(gradients);
  }
  double loss_with(const std::vector<float>& numbers) {
    device->upload(adapter, std::as_bytes(std::span(numbers)));
    const Array losses = decoder->scores(weights(), batch.batch, batch.loss).losses;
    double sum = 0;
    for (std::size_t i = 0; i < losses.count; ++i) sum += static_cast<double>(losses.as<float>()[i]) * static_cast<double>(batch.loss_weights[i]);
    return sum;
  }

  ModelConfig config;
  LoraOptions lora;
  ParameterLayout layout{config, lora};
  std::unique_ptr<CpuDevice> device = need(CpuDevice::make(2));
  Loaded frozen;
  Loaded adapter;
  PackedBatch batch{*device, {{1, 5, 2, 9, 30, 7, 7}, {3, 8, 39, 11}}, std::vector<float>(11, 1.0F)};
  std::unique_ptr<Decoder> decoder;
};

ModelConfig model_of(Architecture architecture) {
  ModelConfig config = tiny();
  config.architecture = architecture;
  if (architecture == Architecture::qwen2) config.head_dim = config.hidden / config.heads;
  return config;
}

TEST_CASE("an adapter that has learned nothing changes no logit", "[gpu][lora]") {
  const ModelConfig config = tiny();
  Adapted begins(config, some_lora(), weights_of(config), random_adapter(config, some_lora(), 1));
  Adapted alone(config, {}, weights_of(config), std::vector<float>(ParameterLayout(config).count()));
  CHECK(begins.logits() == alone.logits());
  const auto numbers = random_adapter(config, some_lora(), 1);
  CHECK(numbers == random_adapter(config, some_lora(), 1));
  CHECK(numbers != random_adapter(config, some_lora(), 2));
}

TEST_CASE("the merged model says what the adapter says", "[gpu][lora]") {
  const ModelConfig config = model_of(GENERATE(Architecture::qwen3, Architecture::qwen2));
  const bool all = GENERATE(true, false);
  const LoraTarget target = all ? LoraTarget::q : GENERATE(from_range(std::vector(lora_targets.begin(), lora_targets.end())));
  const LoraOptions lora = all ? some_lora() : only(target);
  CAPTURE(all, name_of(target));
  const auto adapter = some_adapter(config, lora);
  auto merged = weights_of(config);
  const auto before = merged;
  merge_adapter(config, lora, adapter, merged);
  const auto said = Adapted(config, lora, before, adapter).logits();
  CHECK(relative_difference(said, Adapted(config, {}, merged, std::vector<float>(ParameterLayout(config).count())).logits()) < 1e-5);
  CHECK(relative_difference(said, Adapted(config, {}, before, std::vector<float>(ParameterLayout(config).count())).logits()) > 1e-3);
  // Only matrices that have an adapter are others.
  const ParameterLayout layout(config);
  for (const Parameter& parameter : layout.parameters()) {
    bool has = false;
    for (const LoraTarget one : lora_targets) has = has || (lora.has(one) && parameter.name.ends_with(projection_of(config, one).module + ".weight"));
    const auto view = [&parameter](const std::vector<float>& all_weights) {
      return std::vector(all_weights.begin() + static_cast<std::ptrdiff_t>(parameter.offset), all_weights.begin() + static_cast<std::ptrdiff_t>(parameter.offset + parameter.count));
    };
    CAPTURE(parameter.name);
    CHECK((view(merged) != view(before)) == has);
  }
}

TEST_CASE("gradients of an adapter are the slopes of the loss", "[gpu][lora]") {
  ModelConfig config = model_of(GENERATE(Architecture::qwen3, Architecture::qwen2));
  config.initializer_range = 0.3;
  LoraOptions lora = some_lora();
  lora.rank = 2;
  const Keep keep = GENERATE(Keep::everything, Keep::inputs);
  const auto numbers = some_adapter(config, lora);
  Adapted adapted(config, lora, weights_of(config), numbers, keep);
  const auto gradients = adapted.gradients();
  const auto slopes = slopes_of(numbers, [&adapted](const std::vector<float>& others) { return adapted.loss_with(others); });
  for (const Parameter& parameter : adapted.layout.parameters()) {
    CAPTURE(parameter.name);
    const auto view = [&parameter](const std::vector<float>& all) {
      return std::vector(all.begin() + static_cast<std::ptrdiff_t>(parameter.offset), all.begin() + static_cast<std::ptrdiff_t>(parameter.offset + parameter.count));
    };
    check_close(view(gradients), view(slopes), 2e-2);
  }
}

TrainOptions with_lora(LoraOptions lora = some_lora(), TrainOptions options = quick()) {
  options.lora = lora;
  return options;
}

TEST_CASE("an adapter learns, and the model it is merged into knows what it learned", "[gpu][lora]") {
  TrainOptions options = quick();
  options.schedule.peak = 3e-2;
  LoraOptions lora = some_lora();
  lora.rank = 16;
  lora.alpha = 32;
  TrainRun run(with_lora(lora, options));
  const EvalReport before = need(run.trainer->evaluate(run.samples));
  run.go(150);
  const EvalReport after = need(run.trainer->evaluate(run.samples));
  CHECK(before.exact < 0.1);
  CHECK(after.exact > 0.7);  // of a random model, whose head stays as it is
  auto merged = weights_of(tiny());
  merge_adapter(tiny(), lora, need(run.trainer->weights()), merged);
  auto evaluator = need(Evaluator::make(*run.device, tiny(), merged, 40, 48, 20));
  const EvalReport of_merged = need(evaluator->evaluate(run.samples));
  CHECK(of_merged.loss == Approx(after.loss).epsilon(1e-4));
  CHECK(of_merged.exact == after.exact);
}

TEST_CASE("an adapter's run that goes on from a checkpoint is the run that never stopped, to the bit", "[gpu][lora]") {
  const ScratchFolder folder;
  TrainRun whole(with_lora());
  const auto losses = whole.go(9);
  TrainRun first(with_lora());
  first.go(4);
  REQUIRE(first.trainer->save(folder.path()));
  TrainRun second(with_lora());
  REQUIRE(need(second.trainer->resume(folder.path())));
  CHECK(second.trainer->steps_done() == 4);
  CHECK(std::vector<double>(losses.begin() + 4, losses.end()) == second.go(5));
  CHECK(need(second.trainer->weights()) == need(whole.trainer->weights()));
  second.trainer->restart(weights_of(tiny()));
  CHECK(second.go(9) == losses);
}

TEST_CASE("checkpoints of an adapter and of a whole model are not taken for each other", "[gpu][lora]") {
  const ScratchFolder folder;
  const auto refusal = [&folder](const TrainRun& run) {
    const auto resumed = run.trainer->resume(folder.path());
    REQUIRE_FALSE(resumed);
    CHECK(is(resumed.error(), GpuError::invalid));
    return resumed.error().message;
  };
  TrainRun adapter(with_lora());
  adapter.go(1);
  REQUIRE(adapter.trainer->save(folder.path()));
  CHECK(refusal(TrainRun()).find("of a run with LoRA, and this one learns every weight") != std::string::npos);
  LoraOptions other = some_lora();
  other.alpha = 7;
  CHECK(refusal(TrainRun(with_lora(other))).find("other settings") != std::string::npos);
  other = some_lora();
  other.targets[0] = false;
  CHECK(refusal(TrainRun(with_lora(other))).find("other settings") != std::string::npos);
  auto weights = weights_of(tiny());
  weights[0] += 1;
  CHECK(refusal(TrainRun(with_lora(), 1, weights)).find("beside other weights") != std::string::npos);
  std::filesystem::remove_all(folder.path("step-00000001"));
  TrainRun whole;
  whole.go(1);
  REQUIRE(whole.trainer->save(folder.path()));
  CHECK(refusal(TrainRun(with_lora())).find("of a run that learns every weight, and this one has LoRA") != std::string::npos);
}

TEST_CASE("micro-batches, recomputation and threads change nothing of an adapter but rounding", "[gpu][lora]") {
  const auto reference = TrainRun(with_lora()).go(6);
  TrainOptions options = quick();
  options.rows = GENERATE(13U, 200U);
  options.keep = GENERATE(Keep::everything, Keep::inputs);
  const auto losses = TrainRun(with_lora(some_lora(), options), GENERATE(1U, 3U)).go(6);
  for (std::size_t i = 0; i < losses.size(); ++i) CHECK(losses[i] == Approx(reference[i]).epsilon(1e-4));
}

TEST_CASE("ranks have an adapter's loss curve of one", "[gpu][lora][collective]") {
  const auto reference = TrainRun(with_lora()).go(6);
  const auto of_ranks = on_ranks(2, [](Collective& ranks) -> std::vector<double> {
    TrainOptions options = quick();
    options.lora = some_lora();
    const auto samples = counting(50);
    const auto device = CpuDevice::make(1);
    if (!device) return {};
    const auto trainer = Trainer::make(**device, tiny(), weights_of(tiny()), samples, options, &ranks);
    std::vector<double> losses;
    for (int i = 0; trainer && i < 6; ++i) {
      if (const auto report = (*trainer)->step()) losses.push_back(report->loss);
    }
    return losses;
  });
  for (const auto& losses : of_ranks) {
    REQUIRE(losses.size() == reference.size());
    for (std::size_t i = 0; i < losses.size(); ++i) CHECK(losses[i] == Approx(reference[i]).margin(1e-5));
  }
}

TEST_CASE("frozen weights take no gradient, no moment and no master copy", "[gpu][lora]") {
  TrainOptions options = quick();
  const std::uint64_t model = ParameterLayout(tiny()).count();
  const TrainMemory whole = train_memory(tiny(), options, 16, 0, Dtype::bf16);
  options.lora = some_lora();
  const std::uint64_t adapter = ParameterLayout(tiny(), options.lora).count();
  const TrainMemory lora = train_memory(tiny(), options, 16, 0, Dtype::bf16);
  CHECK(whole.weights == 6 * model);
  CHECK(lora.weights == 2 * model + 6 * adapter);
  CHECK(lora.gradients == 4 * adapter);
  CHECK(lora.optimizer == 8 * adapter);
  CHECK(lora.activations > whole.activations);
  CHECK(train_memory(tiny(), options, 16, 0, Dtype::f32).weights == 4 * model + 4 * adapter);
  CHECK(train_memory(tiny(), options, 16, 0, Dtype::f32, 2).optimizer == 4 * adapter);
  // q, k, v: rank · (16 + 32) + 2 · rank · (16 + 16); o: rank · (32 + 16); gate, up, down: 3 · rank · (16 + 32).
  CHECK(lora_parameters(tiny(), options.lora) == 2 * 4 * (48 + 64 + 48 + 144));
  CHECK(lora_parameters(tiny(), {}) == 0);
}

TEST_CASE("an adapter's folder is one of PEFT", "[gpu][lora]") {
  const ScratchFolder folder;
  LoraOptions lora = only(LoraTarget::v);
  lora.targets[static_cast<std::size_t>(LoraTarget::down)] = true;
  const auto adapter = some_adapter(tiny(), lora);
  REQUIRE(save_adapter(folder.path("adapter"), tiny(), lora, adapter, "/models/base"));
  const auto config = nlohmann::json::parse(need(read_whole_file(folder.path("adapter/adapter_config.json"), 1U << 20)));
  CHECK(config["peft_type"] == "LORA");
  CHECK(config["task_type"] == "CAUSAL_LM");
  CHECK(config["r"] == 4);
  CHECK(config["lora_alpha"] == 6);
  CHECK(config["target_modules"] == nlohmann::json({"v_proj", "down_proj"}));
  CHECK(config["base_model_name_or_path"] == "/models/base");
  const auto file = need(SafetensorsFile::open(folder.path("adapter/adapter_model.safetensors")));
  CHECK(file->tensors().size() == 8);
  const auto shape = [&file](const std::string& name) {
    const TensorInfo* const tensor = file->find("base_model.model.model.layers." + name + ".weight");
    return tensor == nullptr ? std::vector<std::uint64_t>{} : tensor->shape;
  };
  CHECK(shape("0.self_attn.v_proj.lora_A") == std::vector<std::uint64_t>{4, 16});
  CHECK(shape("0.self_attn.v_proj.lora_B") == std::vector<std::uint64_t>{16, 4});
  CHECK(shape("1.mlp.down_proj.lora_A") == std::vector<std::uint64_t>{4, 32});
  const ParameterLayout layout(tiny(), lora);
  const Parameter& last = layout.parameters().back();
  std::vector<float> stored(last.count);
  REQUIRE(file->read(*file->find(last.name), std::as_writable_bytes(std::span(stored))));
  CHECK(std::equal(stored.begin(), stored.end(), adapter.begin() + static_cast<std::ptrdiff_t>(last.offset)));
}

TEST_CASE("an adapter that cannot be is refused with the bounds", "[gpu][lora]") {
  const auto refusal = [](const LoraOptions& lora) {
    TrainOptions options = quick();
    options.lora = lora;
    const auto device = need(CpuDevice::make(1));
    const auto samples = counting(5);
    const auto made = Trainer::make(*device, tiny(), weights_of(tiny()), samples, options);
    REQUIRE_FALSE(made);
    CHECK(is(made.error(), GpuError::invalid));
    return made.error().message;
  };
  LoraOptions lora = some_lora();
  lora.rank = 17;
  CHECK(refusal(lora).find("above 16") != std::string::npos);
  lora = some_lora();
  lora.alpha = GENERATE(0.0, -1.0, 1e9, std::nan(""));
  CHECK(refusal(lora).find("alpha") != std::string::npos);
  lora = some_lora();
  lora.targets = {};
  CHECK(refusal(lora).find("at least one target") != std::string::npos);
  CHECK(need(parse_lora_targets(std::vector<std::string>{})) == LoraOptions{}.targets);
  CHECK(need(parse_lora_targets(std::vector<std::string>{"v_proj"})) == only(LoraTarget::v).targets);
  const auto unknown = parse_lora_targets(std::vector<std::string>{"q_proj", "lm_head"});
  REQUIRE_FALSE(unknown);
  CHECK(unknown.error().message.find("'lm_head'; there are q_proj, k_proj") != std::string::npos);
}

}  // namespace
}  // namespace outlast::gpu::lora_test
