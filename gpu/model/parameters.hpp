// ParameterLayout: where each weight of a model lies in one flat array, so that an optimizer, a checkpoint and a collective see
// one array, and the model sees matrices. Weights that are multiplied with the same rows lie together: q, k and v are one matrix
// [qkv_width, hidden], gate and up one [2 · intermediate, hidden].
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/array.hpp"
#include "gpu/device.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/files/weight_files.hpp"
#include "gpu/model/lora.hpp"

namespace outlast::gpu {

struct Parameter {
  std::string name;  // as in files
  std::vector<std::uint64_t> shape;
  std::size_t offset = 0;  // numbers
  std::size_t count = 0;
  bool decays = false;     // under AdamW: matrices do, norms and biases do not
};

// Immutable.
class ParameterLayout {
 public:
  explicit ParameterLayout(const ModelConfig& config);
  // Of what is learned: of the adapter's A and B, named as in files of PEFT; without LoRA of the whole model.
  ParameterLayout(const ModelConfig& config, const LoraOptions& lora);

  [[nodiscard]] const std::vector<Parameter>& parameters() const { return parameters_; }
  [[nodiscard]] std::size_t count() const { return count_; }  // of all numbers, with gaps for alignment
  // Where each layer's numbers begin, and what comes after the layers.
  [[nodiscard]] const std::vector<std::size_t>& layer_begins() const { return layer_begins_; }
  [[nodiscard]] const Parameter& find(const std::string& name) const;  // one that is there
  [[nodiscard]] Array view(const Array& flat, const std::string& first) const;                           // of one
  [[nodiscard]] Array view(const Array& flat, const std::string& first, const std::string& last) const;  // of neighbours

 private:
  void add_model(const ModelConfig& config);
  void add_adapter(const ModelConfig& config, const LoraOptions& lora);
  void add(std::string name, std::vector<std::uint64_t> shape, bool decays);
  void align();
  void begin_layer();

  std::vector<Parameter> parameters_;
  std::vector<std::size_t> layer_begins_;
  std::size_t count_ = 0;
};

// The matrices of one layer, in a flat array of weights or of gradients; of frozen weights there are no gradients.
struct LayerWeights {
  Array attention_norm;  // [hidden]
  Array qkv;             // [qkv_width, hidden]
  Array qkv_bias;        // [qkv_width], or empty
  Array q_norm;          // [head_dim], or empty
  Array k_norm;
  Array attention_out;   // [hidden, q_width]
  Array mlp_norm;        // [hidden]
  Array gate_up;         // [2 · intermediate, hidden]
  Array down;            // [hidden, intermediate]
  PerLoraTarget<LoraWeights> lora;
};
struct DecoderWeights {
  Array embedding;  // [vocabulary, hidden]
  std::vector<LayerWeights> layers;
  Array norm;       // [hidden]
  Array head;       // [vocabulary, hidden]; the embedding where they are tied
};
DecoderWeights view_weights(const ModelConfig& config, const ParameterLayout& layout, const Array& flat);
// The adapter beside a model's weights, or alone: then all else is empty.
DecoderWeights view_adapter(const ModelConfig& config, const LoraOptions& lora, const ParameterLayout& layout, const Array& flat, DecoderWeights beside = {});

// As a new model has them: matrices from N(0, initializer_range²), norms 1, biases 0; the same for the same seed.
std::vector<float> random_weights(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed);
// Errors: as of WeightFiles::read().
Result<std::vector<float>> load_weights(const ParameterLayout& layout, const WeightFiles& files);
// On the device, in its compute type. Errors: too_large, device.
Result<std::unique_ptr<Memory>> upload_weights(Device& device, std::span<const float> weights);
// A file of all of a layout's parameters. Errors: io.
Result<void> save_parameters(const std::string& path, Dtype dtype, const ParameterLayout& layout, std::span<const float> numbers);
// model.safetensors, in the config's dtype; loads in `transformers`. Errors: io.
Result<void> save_weights(const std::string& folder, const ModelConfig& config, const ParameterLayout& layout, std::span<const float> weights);

}  // namespace outlast::gpu
