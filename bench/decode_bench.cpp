// How fast a student of ten million parameters decodes on this machine's processors: alone and sixteen at once, against what its
// weights could be read at. Without end tokens, so that every answer is as long as asked for.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/measuring.hpp"
#include "bench/student.hpp"
#include "core/check.hpp"
#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"
#include "gpu/decode/decode_engine.hpp"
#include "gpu/model/noise.hpp"

using namespace outlast;
using namespace outlast::gpu;
using bench::need;
using bench::seconds_since;
using bench::Steady;

namespace {

constexpr std::size_t prompt_tokens = 32;
constexpr std::size_t answer_tokens = 256;
constexpr std::size_t together = 16;
constexpr int runs = 5;  // the best counts: other work on the machine only takes away

// Several sums at once: one alone would wait for itself.
OUTLAST_KERNEL float streamed_sum(const float* numbers, std::size_t count) {
  using Wide = float __attribute__((vector_size(64)));
  Wide sums[8] = {};
  const auto* const wide = reinterpret_cast<const Wide*>(numbers);
  for (std::size_t i = 0; i + 8 <= count / 16; i += 8) {
    for (std::size_t j = 0; j < 8; ++j) sums[j] += wide[i + j];
  }
  float sum = 0;
  for (const Wide& one : sums) {
    for (std::size_t i = 0; i < 16; ++i) sum += one[i];
  }
  return sum;
}

// Bytes a second, of all threads together.
double bandwidth_of(const Array& weights) {
  Threads threads(0);
  std::vector<float> sums(threads.count());
  constexpr int passes = 20;
  const auto began = Steady::now();
  for (int pass = 0; pass < passes; ++pass) {
    threads.for_each(weights.count / 128, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      sums[thread] += streamed_sum(weights.as<float>() + begin * 128, (end - begin) * 128);
    });
  }
  const double seconds = seconds_since(began);
  check(std::accumulate(sums.begin(), sums.end(), 0.0F) != 1.0F, "the sums are made");
  return passes * static_cast<double>(weights.bytes()) / seconds;
}

// Tokens a second of `count` requests at once, prompts not counted.
double tokens_per_second(DecodeEngine& engine, const ModelConfig& config, std::size_t count, std::uint64_t seed) {
  for (std::size_t i = 0; i < count; ++i) {
    DecodeRequest request;
    for (std::size_t at = 0; at < prompt_tokens; ++at) request.prompt.push_back(static_cast<TokenId>(noise(seed + i, at) % config.vocabulary));
    request.tokens_max = answer_tokens;
    need(engine.submit(std::move(request)));
  }
  std::size_t tokens = 0;
  std::size_t at_begin = 0;
  auto began = Steady::now();
  const DecodeSink sink = [&tokens](const DecodeEvent& event) { tokens += event.token ? 1 : 0; };
  while (!engine.idle()) {
    check(engine.step(sink).has_value(), "a step of a CPU succeeds");
    if (at_begin == 0 && tokens >= count) {
      at_begin = tokens;
      began = Steady::now();
    }
  }
  return static_cast<double>(tokens - at_begin) / seconds_since(began);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Decodes with a student of ten million parameters on this machine's processors, and says how fast."};
  bool json = false;
  app.add_flag("--json", json, "prints one JSON object");
  CLI11_PARSE(app, argc, argv);

  const ModelConfig config = bench::student();
  const ParameterLayout layout(config);
  const auto device = need(CpuDevice::make(0));
  const auto memory = need(device->allocate(layout.count(), Dtype::f32));
  const std::vector<float> numbers = random_weights(config, layout, 1);
  device->upload(memory->array(), std::as_bytes(std::span(numbers)));
  DecodeLimits limits;
  limits.sequences = together;
  limits.positions = prompt_tokens + answer_tokens;
  limits.pages = together * limits.positions / limits.page_rows;
  const auto engine = need(DecodeEngine::make(*device, config, view_weights(config, layout, memory->array()), bench::tokenizer_of(config.vocabulary), limits));

  const double weight_bytes = static_cast<double>(config.matmul_parameters()) * sizeof(float);
  double bandwidth = 0;
  double alone = 0;
  double all = 0;
  for (int run = 0; run < runs; ++run) {
    bandwidth = std::max(bandwidth, bandwidth_of(memory->array()));
    alone = std::max(alone, tokens_per_second(*engine, config, 1, 1'000 * static_cast<std::uint64_t>(run)));
    all = std::max(all, tokens_per_second(*engine, config, together, 1'000 * static_cast<std::uint64_t>(run) + 1));
  }
  const double limit = bandwidth / weight_bytes;
  if (json) {
    const nlohmann::json figures{{"alone_tokens_per_s", alone}, {"together_tokens_per_s", all}, {"share_of_bandwidth", alone / limit}};
    std::printf("%s\n", figures.dump().c_str());
    return 0;
  }
  std::printf("%.1f million parameters, %.1f MB; a plain sum reads %.1f GB/s: %.0f times the weights a second\n", static_cast<double>(config.parameters()) / 1e6,
              weight_bytes / 1e6, bandwidth / 1e9, limit);
  std::printf("alone      %8.0f tokens/s  %.2f of reading the weights once a token\n", alone, alone / limit);
  std::printf("%zu at once %8.0f tokens/s  %.2f of reading the weights once a step, %.1f times alone\n", together, all, all / together / limit, all / alone);
  return 0;
}
