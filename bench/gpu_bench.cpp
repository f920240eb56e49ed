// How fast a CUDA device trains and serves the shapes of Qwen3 0.6B and 1.7B, with random weights: a training step on sequences of
// 2,048 tokens in tokens a second and as a share of what the device's tensor cores can do (MFU), and decoding of one request against
// reading the weights once a token. scripts/gpu_check runs it, with PyTorch's figures (bench/gpu_torch.py) beside its own.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "bench/measuring.hpp"
#include "bench/student.hpp"
#include "core/check.hpp"
#include "gpu/cuda/cuda.hpp"
#include "gpu/decode/decode_engine.hpp"
#include "gpu/model/noise.hpp"
#include "gpu/train/trainer.hpp"

using namespace outlast;
using namespace outlast::gpu;
using bench::need;
using bench::seconds_since;
using bench::Steady;

namespace {

constexpr std::size_t sequence_tokens = 2'048;
constexpr std::size_t prompt_tokens = 32;
constexpr std::size_t answer_tokens = 256;
constexpr int warm_up_steps = 2;
constexpr int measured_steps = 8;
constexpr int decode_runs = 3;  // the best counts

struct Shape {
  const char* name;
  std::uint32_t hidden;
  std::uint32_t intermediate;
  std::size_t rows;  // of a step, in sequences of sequence_tokens
};
constexpr Shape shapes[] = {{"0.6B", 1'024, 3'072, 8 * sequence_tokens}, {"1.7B", 2'048, 6'144, 4 * sequence_tokens}};

ModelConfig config_of(const Shape& shape) {
  ModelConfig config;
  config.vocabulary = 151'936;
  config.hidden = shape.hidden;
  config.intermediate = shape.intermediate;
  config.layers = 28;
  config.heads = 16;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.positions = 40'960;
  return config;
}

ModelConfig small_config(Architecture architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocabulary = 1'000;
  config.hidden = 64;
  config.intermediate = 128;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 128;  // what the kernels are made for, and published models have
  config.positions = 256;
  return config;
}

// Noise that repeats after a million numbers: drawing each would take longer than what is measured.
std::vector<float> weights_of(const ModelConfig& config, const ParameterLayout& layout) {
  std::vector<float> noise_of(1U << 20);
  fill_normal(noise_of, 1, 0, static_cast<float>(config.initializer_range));
  std::vector<float> weights(layout.count());
  for (const Parameter& parameter : layout.parameters()) {
    for (std::size_t i = 0; i < parameter.count; ++i) weights[parameter.offset + i] = parameter.decays ? noise_of[(parameter.offset + i) % noise_of.size()] : 1.0F;
  }
  return weights;
}

struct Training {
  double tokens_per_second = 0;
  double flops = 0;  // a second
  double loss = 0;   // of the last step
};

Training train(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t rows, std::size_t tokens, int steps) {
  const std::vector<Sample> samples = bench::samples_of(4 * rows / tokens, tokens, config.vocabulary);
  TrainOptions options;
  options.rows = rows;
  options.batch_samples = rows / tokens;
  options.chunk_rows = std::min<std::size_t>(rows, 2'048);
  options.schedule.steps = 1'000;
  options.schedule.peak = 1e-4;
  const auto trainer = need(Trainer::make(device, config, weights, samples, options));
  for (int step = 0; step < warm_up_steps; ++step) need(trainer->step());
  Training training;
  double seconds = 0;
  double count = 0;
  for (int step = 0; step < steps; ++step) {
    const StepReport report = need(trainer->step());
    seconds += report.seconds;
    count += static_cast<double>(report.rows);
    training.flops += report.flops;
    training.loss = report.loss;
  }
  training.tokens_per_second = count / seconds;
  training.flops /= seconds;
  return training;
}

// Of one request, its prompt not counted.
double decode(Device& device, const ModelConfig& config, std::span<const float> weights, std::size_t answer) {
  const ParameterLayout layout(config);
  const auto memory = need(upload_weights(device, weights));
  DecodeLimits limits;
  limits.sequences = 1;
  limits.rows = std::max<std::size_t>(prompt_tokens, limits.sequences);
  limits.positions = prompt_tokens + answer;
  limits.pages = 2 * limits.positions / limits.page_rows;
  const auto engine = need(DecodeEngine::make(device, config, view_weights(config, layout, memory->array()), bench::tokenizer_of(config.vocabulary), limits));
  double best = 0;
  for (int run = 0; run < decode_runs; ++run) {
    DecodeRequest request;
    for (std::size_t i = 0; i < prompt_tokens; ++i) request.prompt.push_back(static_cast<TokenId>(noise(static_cast<std::uint64_t>(run), i) % config.vocabulary));
    request.tokens_max = answer;
    need(engine->submit(std::move(request)));
    std::size_t tokens = 0;
    std::optional<Steady::time_point> began;  // with the first token
    while (!engine->idle()) {
      const Result<void> done = engine->step([&tokens](const DecodeEvent& event) { tokens += event.token ? 1 : 0; });
      if (!done) need(Result<int>(fail(done.error())));
      if (!began && tokens > 0) began = Steady::now();
    }
    if (tokens > 1) best = std::max(best, static_cast<double>(tokens - 1) / seconds_since(*began));
  }
  return best;
}

// Lines "training 0.6B 12345", of what PyTorch did on the same device.
std::map<std::string, double> read_peer(const std::string& path) {
  std::map<std::string, double> figures;
  std::ifstream file(path);
  std::string what;
  std::string model;
  double tokens_per_second = 0;
  while (file >> what >> model >> tokens_per_second) figures[what + " " + model] = tokens_per_second;
  return figures;
}

void print_row(const nlohmann::json& row) {
  const auto number = [&row](const char* key, double scale, const char* unit) {
    std::ostringstream text;
    if (!row.contains(key)) return std::string("-");
    text.precision(3);
    text << row[key].get<double>() * scale << unit;
    return text.str();
  };
  std::printf("%-9s %-5s %10.0f  %12s  %14s\n", row["what"].get<std::string>().c_str(), row["model"].get<std::string>().c_str(), row["tokens_per_second"].get<double>(),
              number("share_of_limit", 100, " %").c_str(), number("times_pytorch", 1, " x").c_str());
}

int measure(Device& device, const std::string& peer_file, const std::string& json_file) {
  const auto peak = cuda_peak(device.name());
  const auto peer = read_peer(peer_file);
  nlohmann::json report{{"device", device.name()}, {"sequence_tokens", sequence_tokens}, {"rows", nlohmann::json::array()}};
  std::printf("%s\n", device.name().c_str());
  if (peak) std::printf("limits: %.0f TFLOP/s in bf16, %.2f TB/s\n", peak->flops / 1e12, peak->bytes_per_second / 1e12);
  else std::printf("the limits of this device are not in the table of gpu/cuda/peaks.cpp: no shares of them\n");
  std::printf("%-9s %-5s %10s  %12s  %14s\n", "what", "model", "tokens/s", "of the limit", "against PyTorch");
  const auto add = [&](const char* what, const char* model, double tokens_per_second, double share) {
    nlohmann::json row{{"what", what}, {"model", model}, {"tokens_per_second", tokens_per_second}};
    if (peak) row["share_of_limit"] = share;
    if (const auto at = peer.find(std::string(what) + " " + model); at != peer.end()) {
      row["pytorch_tokens_per_second"] = at->second;
      row["times_pytorch"] = tokens_per_second / at->second;
    }
    print_row(row);
    std::fflush(stdout);
    report["rows"].push_back(std::move(row));
  };
  for (const Shape& shape : shapes) {
    const ModelConfig config = config_of(shape);
    const std::vector<float> weights = weights_of(config, ParameterLayout(config));
    const Training training = train(device, config, weights, shape.rows, sequence_tokens, measured_steps);
    add("training", shape.name, training.tokens_per_second, peak ? training.flops / peak->flops : 0);
    const double tokens_per_second = decode(device, config, weights, answer_tokens);
    const double weight_bytes = 2 * static_cast<double>(config.matmul_parameters());
    add("decoding", shape.name, tokens_per_second, peak ? tokens_per_second * weight_bytes / peak->bytes_per_second : 0);
  }
  if (peer.empty()) std::printf("PyTorch is not installed here, or failed: nothing to compare with\n");
  if (!json_file.empty()) {
    std::ofstream file(json_file);
    file << report.dump(2) << '\n';
    if (!file.flush()) {
      std::fprintf(stderr, "gpu bench: cannot write %s\n", json_file.c_str());
      return 1;
    }
  }
  return 0;
}

// Every kernel of a step and of decoding once, on little: for compute-sanitizer.
int run_small(Device& device) {
  for (const Architecture architecture : {Architecture::qwen3, Architecture::qwen2}) {  // with norms of heads, and with biases
    const ModelConfig config = small_config(architecture);
    const std::vector<float> weights = weights_of(config, ParameterLayout(config));
    const Training training = train(device, config, weights, 200, 100, 1);
    const double tokens_per_second = decode(device, config, weights, 8);
    std::printf("a small step of %s: loss %.3f, decoding %.0f tokens/s\n", architecture == Architecture::qwen3 ? "Qwen3" : "Qwen2.5", training.loss, tokens_per_second);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Trains and decodes Qwen3 shapes on a CUDA device, with random weights, and says how fast."};
  int number = 0;
  bool small = false;
  std::string peer;
  std::string json;
  app.add_option("--device", number, "which CUDA device")->check(CLI::NonNegativeNumber)->type_name("N");
  app.add_flag("--small", small, "only a small training step and a small answer, for compute-sanitizer");
  app.add_option("--peer", peer, "what bench/gpu_torch.py printed")->check(CLI::ExistingFile)->type_name("FILE");
  app.add_option("--json", json, "writes the figures there too")->type_name("FILE");
  CLI11_PARSE(app, argc, argv);
  const auto device = need(make_cuda_device(number));
  return small ? run_small(*device) : measure(*device, peer, json);
}
