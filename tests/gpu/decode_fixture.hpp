// A small random model with a tokenizer, an engine on it, and the trainer's own scores of what the engine said.
#pragma once

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/decode/decode_engine.hpp"
#include "gpu/model/noise.hpp"
#include "tests/gpu/decoder_fixture.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::gpu {

inline ModelConfig small_config(Architecture architecture, std::size_t tokens) {
  ModelConfig config;
  config.architecture = architecture;
  config.vocabulary = static_cast<std::uint32_t>(tokens + 13);  // padded, as published models are
  config.hidden = 32;
  config.intermediate = 48;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.positions = 512;
  config.initializer_range = 0.3;  // so that logits differ by much
  config.tied = architecture == Architecture::qwen3;
  return config;
}

struct SmallModel {
  explicit SmallModel(Architecture architecture = Architecture::qwen3, std::size_t threads = 2) : SmallModel(architecture, need(CpuDevice::make(threads))) {}
  SmallModel(Architecture architecture, std::unique_ptr<Device> on)
      : config(small_config(architecture, small.tokenizer->size())), layout(config), device(std::move(on)), flat(load_weights_on(*device, numbers())),
        weights(view_weights(config, layout, flat)) {}

  std::vector<float> numbers() const {
    auto weights_now = random_weights(config, layout, 7);
    for (const Parameter& parameter : layout.parameters()) {
      if (parameter.name.ends_with(".bias")) fill_normal(std::span(weights_now).subspan(parameter.offset, parameter.count), 8, parameter.offset, 0.3F);
    }
    return weights_now;
  }

  std::unique_ptr<DecodeEngine> engine(const DecodeLimits& limits) { return need(DecodeEngine::make(*device, config, weights, small.tokenizer, limits)); }

  // Of each token after the first `prompt`, by the trainer's forward pass over the whole.
  std::vector<float> trainers_log_p(const std::vector<TokenId>& tokens, std::size_t prompt) {
    DecoderLimits limits;
    limits.rows = limits.loss_rows = limits.positions = tokens.size();
    limits.chunk_rows = 7;
    limits.trains = false;
    const auto decoder = need(Decoder::make(*device, config, limits));
    std::vector<float> bears(tokens.size());
    std::fill(bears.begin() + static_cast<std::ptrdiff_t>(prompt), bears.end(), 1.0F);
    PackedBatch packed(*device, {{tokens.begin(), tokens.end()}}, bears);
    packed.loss.tokens = small.tokenizer->size();
    auto losses = need(gpu::numbers_of<float>(*device, decoder->scores(weights, packed.batch, packed.loss).losses));
    for (float& loss : losses) loss = -loss;
    return losses;
  }

  SmallTokenizer small;
  ModelConfig config;
  ParameterLayout layout;
  std::unique_ptr<Device> device;
  Loaded flat;
  DecoderWeights weights;
};

inline DecodeLimits small_limits() {
  DecodeLimits limits;
  limits.sequences = 4;
  limits.rows = 16;
  limits.pages = 64;
  limits.page_rows = 4;
  limits.positions = 96;
  limits.waiting = 32;
  return limits;
}

inline std::vector<TokenId> random_prompt(const Tokenizer& tokenizer, std::size_t size, std::uint64_t seed) {
  std::vector<TokenId> tokens(size);
  for (std::size_t i = 0; i < size; ++i) tokens[i] = static_cast<TokenId>(noise(seed, i) % tokenizer.model().tokens.size());
  return tokens;
}

// All that was said of one request.
struct Heard {
  std::string text;
  std::vector<TokenId> tokens;
  std::vector<float> log_p;
  std::optional<DecodeFinish> finish;
};

class EventListener {
 public:
  EventListener() : sink([this](const DecodeEvent& event) { hear(event); }) {}
  EventListener(const EventListener&) = delete;
  EventListener& operator=(const EventListener&) = delete;
  // Until nothing is left to do.
  void run(DecodeEngine& engine) {
    for (int steps = 0; !engine.idle(); ++steps) {
      REQUIRE(steps < 100'000);
      REQUIRE(engine.step(sink));
    }
  }

  std::map<RequestId, Heard> all;
  const DecodeSink sink;

 private:
  void hear(const DecodeEvent& event) {
    Heard& heard = all[event.request];
    REQUIRE(!heard.finish);
    heard.text += event.text;
    if (event.token) {
      heard.tokens.push_back(event.token->token);
      heard.log_p.push_back(event.token->log_p);
    }
    heard.finish = event.finish;
  }
};

}  // namespace outlast::gpu
