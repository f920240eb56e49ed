// A model's folder, as Hugging Face lays it out: config.json, generation_config.json, tokenizer.json and weights. What is
// written loads in `transformers`.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "core/result.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/tokenizer/chat_template.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu {

// Without its weights, which load_weights() reads.
struct ModelFolder {
  ModelConfig config;
  SamplingConfig sampling;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::string foreign_template;  // what the folder's own chat template has that render_chat() does not; empty: nothing, or there is none
  [[nodiscard]] ChatFormat format() const { return config.architecture == Architecture::qwen3 ? ChatFormat::qwen3 : ChatFormat::qwen2; }
  // Tokens that end an answer.
  [[nodiscard]] std::vector<std::uint32_t> ends() const;
};

// Errors: io, malformed, unsupported (no chat can be written with its tokenizer), invalid (a tokenizer larger than the model).
Result<ModelFolder> read_model_folder(const std::string& folder);

// Makes the folder where it is not there; weights last, so that what has weights is whole. `like`: the folder of `model`, whose
// files of the tokenizer are copied, and the template where it is not foreign; empty: they are written anew. Errors: io, malformed.
Result<void> write_model_folder(const std::string& folder, const ModelFolder& model, std::span<const float> weights, const std::string& like);

}  // namespace outlast::gpu
