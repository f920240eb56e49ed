// The student that benchmarks of the engine use on a CPU, and what makes random work for any model.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gpu/files/model_config.hpp"
#include "gpu/model/noise.hpp"
#include "gpu/tokenizer/tokenizer.hpp"
#include "gpu/train/sample.hpp"

namespace outlast::bench {

// Ten million parameters; bench/student_torch.py has the same.
inline gpu::ModelConfig student() {
  gpu::ModelConfig config;
  config.vocabulary = 8'192;
  config.hidden = 320;
  config.intermediate = 1'024;
  config.layers = 6;
  config.heads = 6;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.positions = 2'048;
  return config;
}

// All bytes, and tokens with a byte more.
inline std::shared_ptr<const gpu::Tokenizer> tokenizer_of(std::size_t tokens) {
  gpu::TokenizerModel model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  for (gpu::TokenId pair = 0; model.tokens.size() < tokens; ++pair) {
    model.merges.emplace_back(pair / 256, pair % 256);
    model.tokens.push_back(model.tokens[pair / 256] + model.tokens[pair % 256]);
  }
  return std::make_shared<const gpu::Tokenizer>(std::move(model));
}

// Every token bears loss.
inline std::vector<gpu::Sample> samples_of(std::size_t count, std::size_t tokens, std::size_t vocabulary) {
  std::vector<gpu::Sample> samples(count);
  for (std::size_t number = 0; number < count; ++number) {
    for (std::size_t i = 0; i < tokens; ++i) samples[number].tokens.push_back(static_cast<std::int32_t>(gpu::noise(number, i) % vocabulary));
    samples[number].weights.assign(tokens, 1.0F);
  }
  return samples;
}

}  // namespace outlast::bench
