// A model that trains in milliseconds, samples that it can learn, and options that make it.
#pragma once

#include <cstdint>
#include <vector>

#include "gpu/train/trainer.hpp"

namespace outlast::gpu {

inline ModelConfig tiny() {
  ModelConfig config;
  config.vocabulary = 40;
  config.hidden = 16;
  config.intermediate = 32;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.positions = 64;
  config.initializer_range = 0.1;
  return config;
}

// Tokens that count up from the first; the second half bears loss.
inline std::vector<Sample> counting(std::size_t count) {
  std::vector<Sample> samples;
  for (std::size_t i = 0; i < count; ++i) {
    Sample sample;
    const std::size_t size = 4 + i % 9;
    for (std::size_t at = 0; at < size; ++at) {
      sample.tokens.push_back(static_cast<std::int32_t>((i * 7 + at) % 40));
      sample.weights.push_back(at >= size / 2 ? 1.0F : 0.0F);
    }
    samples.push_back(std::move(sample));
  }
  return samples;
}

inline TrainOptions quick() {
  TrainOptions options;
  options.rows = 48;
  options.chunk_rows = 16;
  options.batch_samples = 8;
  options.schedule.peak = 1e-2;
  options.schedule.warm_up_steps = 3;
  options.schedule.steps = 150;
  return options;
}

}  // namespace outlast::gpu
