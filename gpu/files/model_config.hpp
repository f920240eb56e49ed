// ModelConfig: what a model of the Qwen family is made of, from its folder's config.json, and how it likes to be sampled, from
// generation_config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gpu/files/dtype.hpp"

namespace outlast::gpu {

enum class Architecture : std::uint8_t { qwen3, qwen2 };

struct ModelConfig {
  Architecture architecture = Architecture::qwen3;
  std::uint32_t vocabulary = 0;    // rows of the embedding: the tokenizer's size, padded
  std::uint32_t hidden = 0;
  std::uint32_t intermediate = 0;  // of the feed-forward part
  std::uint32_t layers = 0;
  std::uint32_t heads = 0;
  std::uint32_t kv_heads = 0;      // divides heads
  std::uint32_t head_dim = 0;      // explicit for Qwen3: not hidden / heads
  std::uint32_t positions = 0;     // as far as it was trained
  double rope_theta = 1e6;
  double norm_epsilon = 1e-6;
  double initializer_range = 0.02;
  bool tied = true;                // the head is the embedding
  Dtype dtype = Dtype::bf16;       // of the weights in files
  std::optional<std::uint32_t> bos_token;
  std::vector<std::uint32_t> eos_tokens;

  [[nodiscard]] bool has_qkv_bias() const { return architecture == Architecture::qwen2; }
  [[nodiscard]] bool has_qk_norm() const { return architecture == Architecture::qwen3; }
  [[nodiscard]] std::uint32_t q_width() const { return heads * head_dim; }
  [[nodiscard]] std::uint32_t kv_width() const { return kv_heads * head_dim; }
  // All weights; a tied head counts once.
  [[nodiscard]] std::uint64_t parameters() const;
  // Those that a token is multiplied with: without norms, biases and the embedding as a table, with the head.
  [[nodiscard]] std::uint64_t matmul_parameters() const;
  bool operator==(const ModelConfig&) const = default;
};

// Errors: malformed and unsupported, with the key; what this build would run otherwise than it is meant is refused.
Result<ModelConfig> parse_model_config(std::string_view json);
// Loads in `transformers`.
std::string model_config_json(const ModelConfig& config);
// Errors: invalid, with what would be right.
Result<void> check_model_config(const ModelConfig& config);

struct SamplingConfig {
  double temperature = 1.0;
  double top_p = 1.0;
  std::uint32_t top_k = 0;  // 0: all
  std::vector<std::uint32_t> eos_tokens;
  bool operator==(const SamplingConfig&) const = default;
};
Result<SamplingConfig> parse_sampling_config(std::string_view json);
std::string sampling_config_json(const SamplingConfig& config);

}  // namespace outlast::gpu
