// An adapter's numbers: as they begin, within the model's weights, and in files of PEFT. They lie as ParameterLayout(config, lora) says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/model/lora.hpp"

namespace outlast::gpu {

// A from N(0, 1 / (3 · inputs)), as wide as PEFT draws it; B zero. The same for the same seed.
std::vector<float> random_adapter(const ModelConfig& config, const LoraOptions& lora, std::uint64_t seed);
// W + alpha / rank · B · A into each of the model's matrices that has an adapter. `weights`: of ParameterLayout(config).
void merge_adapter(const ModelConfig& config, const LoraOptions& lora, std::span<const float> adapter, std::span<float> weights);
// adapter_config.json and adapter_model.safetensors in float32; loads in `peft`. Makes the folder; the numbers last. `base`: the
// model's folder, for whoever loads the adapter. Errors: io.
Result<void> save_adapter(const std::string& folder, const ModelConfig& config, const LoraOptions& lora, std::span<const float> adapter, const std::string& base);

}  // namespace outlast::gpu
