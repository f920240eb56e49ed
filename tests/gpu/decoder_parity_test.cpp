// The decoder against transformers: fixtures by make_fixtures.py, in tests/gpu/fixtures or in $OUTLAST_GPU_FIXTURES.
#include <cstdlib>
#include <cstring>

#include "gpu/model/lora_adapter.hpp"
#include "gpu/model/noise.hpp"
#include "tests/gpu/decoder_fixture.hpp"

namespace outlast::gpu::decoder_parity_test {
namespace {

constexpr double tolerance = 1e-4;

std::string fixtures() {
  const char* const chosen = std::getenv("OUTLAST_GPU_FIXTURES");
  return chosen != nullptr ? chosen : OUTLAST_SOURCE_DIR "/tests/gpu/fixtures";
}

struct Expected {
  explicit Expected(const std::string& path) : file(need(SafetensorsFile::open(path))) {}

  template <class T>
  std::vector<T> get(const std::string& name) const {
    const TensorInfo* const tensor = file->find(name);
    if (tensor == nullptr) FAIL("the fixture has no " + name);
    std::vector<T> numbers(tensor->count());
    REQUIRE(tensor->bytes() == numbers.size() * sizeof(T));
    REQUIRE(file->read(*tensor, std::as_writable_bytes(std::span(numbers))));
    return numbers;
  }
  std::unique_ptr<SafetensorsFile> file;
};

struct Parity {
  Parity(const std::string& family, Keep keep, std::size_t threads)
      : folder(fixtures() + "/" + family),
        expected(folder + "/expected.safetensors"),
        config(need(parse_model_config(need(read_whole_file(folder + "/config.json", 1U << 20))))),
        layout(config),
        device(need(CpuDevice::make(threads))),
        flat(*device, need(load_weights(layout, *need(WeightFiles::open(folder))))),
        flat_gradients(*device, std::vector<float>(layout.count())),
        weights(view_weights(config, layout, flat)),
        gradients(view_weights(config, layout, flat_gradients)),
        batch(*device, sequences(), expected.get<float>("weights")) {
    batch.loss.tokens = config.vocabulary;
    DecoderLimits limits;
    limits.rows = batch.batch.tokens.count;
    limits.loss_rows = limits.rows;
    limits.chunk_rows = 5;  // so that the rows take several chunks
    limits.positions = 64;
    limits.keep = keep;
    decoder = need(Decoder::make(*device, config, limits));
  }

  std::vector<std::vector<std::int32_t>> sequences() const {
    const auto tokens = expected.get<std::int32_t>("tokens");
    const auto begins = expected.get<std::int32_t>("begins");
    std::vector<std::vector<std::int32_t>> sequences;
    for (std::size_t i = 0; i + 1 < begins.size(); ++i) sequences.emplace_back(tokens.begin() + begins[i], tokens.begin() + begins[i + 1]);
    return sequences;
  }

  float mean_loss(const Array& losses) const {
    double sum = 0;
    for (std::size_t i = 0; i < losses.count; ++i) sum += static_cast<double>(losses.as<float>()[i]) * static_cast<double>(batch.loss_weights[i]);
    return static_cast<float>(sum);
  }

  std::string folder;
  Expected expected;
  ModelConfig config;
  ParameterLayout layout;
  std::unique_ptr<CpuDevice> device;
  Loaded flat;
  Loaded flat_gradients;
  DecoderWeights weights;
  DecoderWeights gradients;
  PackedBatch batch;
  std::unique_ptr<Decoder> decoder;
};

TEST_CASE("logits are those of transformers", "[gpu]") {
  const std::string family = GENERATE("qwen3", "qwen2");
  CAPTURE(family);
  Parity parity(family, Keep::everything, 2);
  const Array states = parity.decoder->forward(parity.weights, parity.batch.batch);
  const std::size_t rows = parity.batch.batch.tokens.count;
  const Loaded logits(*parity.device, std::vector<float>(rows * parity.config.vocabulary));
  parity.device->run(Linear{logits, states, parity.weights.head, {}, parity.config.hidden, parity.config.vocabulary});
  CHECK(relative_difference(numbers_of(logits), parity.expected.get<float>("logits")) < tolerance);
}

TEST_CASE("the loss and every gradient are those of transformers", "[gpu]") {
  const std::string family = GENERATE("qwen3", "qwen2");
  const Keep keep = GENERATE(Keep::everything, Keep::inputs);
  const std::size_t threads = GENERATE(1U, 2U, 3U);
  CAPTURE(family, static_cast<int>(keep), threads);
  Parity parity(family, keep, threads);
  const Array losses = parity.decoder->loss_and_gradients(parity.weights, parity.gradients, parity.batch.batch, parity.batch.loss);
  CHECK(parity.mean_loss(losses) == Approx(parity.expected.get<float>("losses").front()).epsilon(tolerance));
  for (const Parameter& parameter : parity.layout.parameters()) {
    CAPTURE(parameter.name);
    const auto got = numbers_of(parity.layout.view(parity.flat_gradients, parameter.name));
    CHECK(relative_difference(got, parity.expected.get<float>("gradient." + parameter.name)) < tolerance);
  }
}

// Beside weights that make, with the adapter, those of the fixture: what autograd says of them says by the chain rule what it says of
// A and B, dA = alpha / rank · Bᵀ · dW and dB = alpha / rank · dW · Aᵀ.
TEST_CASE("gradients of an adapter are those of transformers", "[gpu][lora]") {
  const std::string family = GENERATE("qwen3", "qwen2");
  const Keep keep = GENERATE(Keep::everything, Keep::inputs);
  CAPTURE(family, static_cast<int>(keep));
  Parity parity(family, keep, 2);
  LoraOptions lora;
  lora.rank = 3;
  lora.alpha = 4;
  const ParameterLayout layout(parity.config, lora);
  std::vector<float> numbers(layout.count());
  for (const Parameter& parameter : layout.parameters()) fill_normal(std::span(numbers).subspan(parameter.offset, parameter.count), 7, parameter.offset, 0.1F);
  LoraOptions taken_away = lora;
  taken_away.alpha = -lora.alpha;
  auto rest = numbers_of(parity.flat);
  merge_adapter(parity.config, taken_away, numbers, rest);

  const Loaded frozen(*parity.device, rest);
  const Loaded adapter(*parity.device, numbers);
  const Loaded flat(*parity.device, std::vector<float>(layout.count()));
  DecoderLimits limits;
  limits.rows = parity.batch.batch.tokens.count;
  limits.loss_rows = limits.rows;
  limits.chunk_rows = 5;
  limits.positions = 64;
  limits.keep = keep;
  limits.lora = lora;
  const auto decoder = need(Decoder::make(*parity.device, parity.config, limits));
  const DecoderWeights weights = view_adapter(parity.config, lora, layout, adapter, view_weights(parity.config, parity.layout, frozen));
  const Array losses = decoder->loss_and_gradients(weights, view_adapter(parity.config, lora, layout, flat), parity.batch.batch, parity.batch.loss);
  CHECK(parity.mean_loss(losses) == Approx(parity.expected.get<float>("losses").front()).epsilon(tolerance));

  for (std::size_t layer = 0; layer < parity.config.layers; ++layer) {
    for (const LoraTarget target : lora_targets) {
      const Projection projection = projection_of(parity.config, target);
      const std::string module = "model.layers." + std::to_string(layer) + "." + projection.module;
      CAPTURE(module);
      const auto of = [&](const Loaded& all, const char* matrix) { return numbers_of(layout.view(all, "base_model.model." + module + matrix)); };
      const auto a = of(adapter, ".lora_A.weight");
      const auto b = of(adapter, ".lora_B.weight");
      const auto d_w = parity.expected.get<float>("gradient." + module + ".weight");
      std::vector<float> d_a(a.size());
      std::vector<float> d_b(b.size());
      for (std::size_t out = 0; out < projection.outputs; ++out) {
        for (std::size_t in = 0; in < projection.inputs; ++in) {
          const float slope = lora.scale() * d_w[out * projection.inputs + in];
          for (std::size_t r = 0; r < lora.rank; ++r) {
            d_a[r * projection.inputs + in] += slope * b[out * lora.rank + r];
            d_b[out * lora.rank + r] += slope * a[r * projection.inputs + in];
          }
        }
      }
      CHECK(relative_difference(of(flat, ".lora_A.weight"), d_a) < tolerance);
      CHECK(relative_difference(of(flat, ".lora_B.weight"), d_b) < tolerance);
    }
  }
}

TEST_CASE("ten steps of AdamW give the losses of torch", "[gpu]") {
  const std::string family = GENERATE("qwen3", "qwen2");
  CAPTURE(family);
  Parity parity(family, Keep::everything, 2);
  const Loaded first(*parity.device, std::vector<float>(parity.layout.count()));
  const Loaded second(*parity.device, std::vector<float>(parity.layout.count()));
  std::vector<float> losses;
  for (std::uint64_t step = 1; step <= 10; ++step) {
    parity.device->fill_zero(parity.flat_gradients);
    losses.push_back(parity.mean_loss(parity.decoder->loss_and_gradients(parity.weights, parity.gradients, parity.batch.batch, parity.batch.loss)));
    for (const Parameter& parameter : parity.layout.parameters()) {
      const auto view = [&](const Loaded& flat) { return parity.layout.view(flat, parameter.name); };
      AdamW update{view(parity.flat), {}, view(parity.flat_gradients), view(first), view(second)};
      update.rate = 1e-3F;
      update.decay = parameter.decays ? 0.1F : 0.0F;
      update.step = step;
      parity.device->run(update);
    }
  }
  CHECK(relative_difference(losses, parity.expected.get<float>("losses")) < tolerance);
}

}  // namespace
}  // namespace outlast::gpu::decoder_parity_test
