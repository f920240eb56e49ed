#include "gpu/model/parameters.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t alignment = 64;  // numbers

std::string layer_name(std::size_t layer, const std::string& rest) { return "model.layers." + std::to_string(layer) + "." + rest; }
std::string adapter_name(std::size_t layer, const Projection& projection, char matrix) {
  return "base_model.model." + layer_name(layer, projection.module) + ".lora_" + matrix + ".weight";
}

}  // namespace

ParameterLayout::ParameterLayout(const ModelConfig& config) { add_model(config); }

ParameterLayout::ParameterLayout(const ModelConfig& config, const LoraOptions& lora) {
  if (lora.rank == 0) add_model(config);
  else add_adapter(config, lora);
}

void ParameterLayout::add_adapter(const ModelConfig& config, const LoraOptions& lora) {
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    begin_layer();
    for (const LoraTarget target : lora_targets) {
      if (!lora.has(target)) continue;
      const Projection projection = projection_of(config, target);
      add(adapter_name(layer, projection, 'A'), {lora.rank, projection.inputs}, true);
      align();
      add(adapter_name(layer, projection, 'B'), {projection.outputs, lora.rank}, true);
      align();
    }
  }
  begin_layer();
}

void ParameterLayout::add_model(const ModelConfig& config) {
  const std::uint64_t hidden = config.hidden;
  add("model.embed_tokens.weight", {config.vocabulary, hidden}, true);
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    const auto name = [layer](const char* rest) { return layer_name(layer, rest); };
    begin_layer();
    add(name("input_layernorm.weight"), {hidden}, false);
    align();
    add(name("self_attn.q_proj.weight"), {config.q_width(), hidden}, true);
    add(name("self_attn.k_proj.weight"), {config.kv_width(), hidden}, true);
    add(name("self_attn.v_proj.weight"), {config.kv_width(), hidden}, true);
    if (config.has_qkv_bias()) {
      align();
      add(name("self_attn.q_proj.bias"), {config.q_width()}, false);
      add(name("self_attn.k_proj.bias"), {config.kv_width()}, false);
      add(name("self_attn.v_proj.bias"), {config.kv_width()}, false);
    }
    if (config.has_qk_norm()) {
      align();
      add(name("self_attn.q_norm.weight"), {config.head_dim}, false);
      align();
      add(name("self_attn.k_norm.weight"), {config.head_dim}, false);
    }
    align();
    add(name("self_attn.o_proj.weight"), {hidden, config.q_width()}, true);
    align();
    add(name("post_attention_layernorm.weight"), {hidden}, false);
    align();
    add(name("mlp.gate_proj.weight"), {config.intermediate, hidden}, true);
    add(name("mlp.up_proj.weight"), {config.intermediate, hidden}, true);
    align();
    add(name("mlp.down_proj.weight"), {hidden, config.intermediate}, true);
  }
  begin_layer();
  add("model.norm.weight", {hidden}, false);
  align();
  if (!config.tied) add("lm_head.weight", {config.vocabulary, hidden}, true);
  align();
}

void ParameterLayout::add(std::string name, std::vector<std::uint64_t> shape, bool decays) {
  std::size_t size = 1;
  for (const std::uint64_t dimension : shape) size *= dimension;
  parameters_.push_back({std::move(name), std::move(shape), count_, size, decays});
  count_ += size;
}

void ParameterLayout::align() { count_ = (count_ + alignment - 1) / alignment * alignment; }

void ParameterLayout::begin_layer() {
  align();
  layer_begins_.push_back(count_);
}

const Parameter& ParameterLayout::find(const std::string& name) const {
  const auto at = std::find_if(parameters_.begin(), parameters_.end(), [&name](const Parameter& one) { return one.name == name; });
  check(at != parameters_.end(), "a model has the parameters of its layout", name);
  return *at;
}

Array ParameterLayout::view(const Array& flat, const std::string& first) const { return view(flat, first, first); }

Array ParameterLayout::view(const Array& flat, const std::string& first, const std::string& last) const {
  const Parameter& begin = find(first);
  const Parameter& end = find(last);
  return flat.part(begin.offset, end.offset + end.count - begin.offset);
}

DecoderWeights view_weights(const ModelConfig& config, const ParameterLayout& layout, const Array& flat) {
  DecoderWeights weights;
  weights.embedding = layout.view(flat, "model.embed_tokens.weight");
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    const auto view = [&layout, &flat, layer](const char* first, const char* last) { return layout.view(flat, layer_name(layer, first), layer_name(layer, last)); };
    LayerWeights one;
    one.attention_norm = view("input_layernorm.weight", "input_layernorm.weight");
    one.qkv = view("self_attn.q_proj.weight", "self_attn.v_proj.weight");
    if (config.has_qkv_bias()) one.qkv_bias = view("self_attn.q_proj.bias", "self_attn.v_proj.bias");
    if (config.has_qk_norm()) {
      one.q_norm = view("self_attn.q_norm.weight", "self_attn.q_norm.weight");
      one.k_norm = view("self_attn.k_norm.weight", "self_attn.k_norm.weight");
    }
    one.attention_out = view("self_attn.o_proj.weight", "self_attn.o_proj.weight");
    one.mlp_norm = view("post_attention_layernorm.weight", "post_attention_layernorm.weight");
    one.gate_up = view("mlp.gate_proj.weight", "mlp.up_proj.weight");
    one.down = view("mlp.down_proj.weight", "mlp.down_proj.weight");
    weights.layers.push_back(one);
  }
  weights.norm = layout.view(flat, "model.norm.weight");
  weights.head = config.tied ? weights.embedding : layout.view(flat, "lm_head.weight");
  return weights;
}

DecoderWeights view_adapter(const ModelConfig& config, const LoraOptions& lora, const ParameterLayout& layout, const Array& flat, DecoderWeights beside) {
  beside.layers.resize(config.layers);
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    for (const LoraTarget target : lora_targets) {
      if (!lora.has(target)) continue;
      const Projection projection = projection_of(config, target);
      beside.layers[layer].lora[static_cast<std::size_t>(target)] = {layout.view(flat, adapter_name(layer, projection, 'A')),
                                                                     layout.view(flat, adapter_name(layer, projection, 'B'))};
    }
  }
  return beside;
}

std::vector<float> random_weights(const ModelConfig& config, const ParameterLayout& layout, std::uint64_t seed) {
  std::vector<float> weights(layout.count(), 0.0F);
  for (const Parameter& parameter : layout.parameters()) {
    const std::span<float> numbers = std::span(weights).subspan(parameter.offset, parameter.count);
    if (parameter.decays) fill_normal(numbers, seed, parameter.offset, static_cast<float>(config.initializer_range));
    else if (parameter.shape.size() == 1 && !parameter.name.ends_with(".bias")) std::fill(numbers.begin(), numbers.end(), 1.0F);
  }
  return weights;
}

Result<std::vector<float>> load_weights(const ParameterLayout& layout, const WeightFiles& files) {
  // Before memory is taken for what a configuration claims.
  for (const Parameter& parameter : layout.parameters()) {
    if (Result<void> good = files.check_tensor(parameter.name, parameter.shape); !good) return fail(std::move(good.error()));
  }
  std::vector<float> weights(layout.count(), 0.0F);
  for (const Parameter& parameter : layout.parameters()) {
    if (Result<void> read = files.read(parameter.name, parameter.shape, std::span(weights).subspan(parameter.offset, parameter.count)); !read)
      return fail(std::move(read.error()));
  }
  return weights;
}

Result<std::unique_ptr<Memory>> upload_weights(Device& device, std::span<const float> weights) {
  auto placed = device.allocate(weights.size(), device.compute_dtype());
  if (!placed) return placed;
  if (device.compute_dtype() == Dtype::f32) {
    device.upload((*placed)->array(), std::as_bytes(weights));
    return placed;
  }
  // In pieces, so that it never takes more than what stays.
  const auto wide = device.allocate(std::min(weights.size(), tensor_piece_bytes / sizeof(float)), Dtype::f32);
  if (!wide) return fail(wide.error());
  for (std::size_t begin = 0; begin < weights.size();) {
    const Array piece = (*wide)->array().part(0, std::min((*wide)->array().count, weights.size() - begin));
    device.upload(piece, std::as_bytes(weights.subspan(begin, piece.count)));
    device.copy((*placed)->array().part(begin, piece.count), piece);
    begin += piece.count;
  }
  if (Result<void> done = device.synchronize(); !done) return fail(std::move(done.error()));
  return placed;
}

Result<void> save_weights(const std::string& folder, const ModelConfig& config, const ParameterLayout& layout, std::span<const float> weights) {
  return save_parameters(folder + "/model.safetensors", config.dtype, layout, weights);
}

Result<void> save_parameters(const std::string& path, Dtype dtype, const ParameterLayout& layout, std::span<const float> all) {
  std::vector<TensorToWrite> tensors;
  for (const Parameter& parameter : layout.parameters()) {
    const std::span<const float> numbers = all.subspan(parameter.offset, parameter.count);
    const auto fill = [numbers, dtype](std::size_t first, std::span<std::byte> into) -> Result<void> {
      const std::span<const float> piece = numbers.subspan(first / size_of(dtype), into.size() / size_of(dtype));
      if (dtype == Dtype::f32) {
        std::memcpy(into.data(), piece.data(), into.size());
        return {};
      }
      auto* const bits = reinterpret_cast<std::uint16_t*>(into.data());
      for (std::size_t i = 0; i < piece.size(); ++i) bits[i] = dtype == Dtype::f16 ? to_f16(piece[i]) : to_bf16(piece[i]);
      return {};
    };
    tensors.push_back({parameter.name, dtype, parameter.shape, fill});
  }
  return write_safetensors(path, tensors, {{"format", "pt"}});
}

}  // namespace outlast::gpu
