#include "gpu/model/lora_adapter.hpp"

#include <cmath>
#include <filesystem>

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::gpu {
namespace {

std::string adapter_config_json(const LoraOptions& lora, const std::string& base) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("peft_type").string("LORA").key("task_type").string("CAUSAL_LM").key("base_model_name_or_path").string(base);
  json.key("r").number(lora.rank).key("lora_alpha").real(lora.alpha).key("lora_dropout").real(0).key("bias").string("none");
  json.key("fan_in_fan_out").boolean(false).key("inference_mode").boolean(true).key("init_lora_weights").boolean(true);
  json.key("use_rslora").boolean(false).key("use_dora").boolean(false).key("modules_to_save").null().key("target_modules").begin_array();
  for (const LoraTarget target : lora_targets) {
    if (lora.has(target)) json.string(name_of(target));
  }
  json.end_array().end_object();
  return text;
}

}  // namespace

std::vector<float> random_adapter(const ModelConfig& config, const LoraOptions& lora, std::uint64_t seed) {
  const ParameterLayout layout(config, lora);
  std::vector<float> numbers(layout.count(), 0.0F);
  for (const Parameter& parameter : layout.parameters()) {
    if (!parameter.name.ends_with(".lora_A.weight")) continue;
    const double deviation = 1 / std::sqrt(3.0 * static_cast<double>(parameter.shape[1]));
    fill_normal(std::span(numbers).subspan(parameter.offset, parameter.count), seed, parameter.offset, static_cast<float>(deviation));
  }
  return numbers;
}

void merge_adapter(const ModelConfig& config, const LoraOptions& lora, std::span<const float> adapter, std::span<float> weights) {
  const ParameterLayout model(config);
  const ParameterLayout layout(config, lora);
  check(adapter.size() == layout.count() && weights.size() == model.count(), "an adapter is merged into its model");
  for (std::size_t at = 0; at < layout.parameters().size(); at += 2) {
    const Parameter& a = layout.parameters()[at];
    const Parameter& b = layout.parameters()[at + 1];
    constexpr std::string_view before = "base_model.model.";
    constexpr std::string_view after = ".lora_A.weight";
    const Parameter& matrix = model.find(a.name.substr(before.size(), a.name.size() - before.size() - after.size()) + ".weight");
    const std::size_t inputs = a.shape[1];
    for (std::size_t output = 0; output < b.shape[0]; ++output) {
      float* const row = weights.data() + matrix.offset + output * inputs;
      for (std::size_t r = 0; r < lora.rank; ++r) {
        const float factor = lora.scale() * adapter[b.offset + output * lora.rank + r];
        const float* const a_row = adapter.data() + a.offset + r * inputs;
        for (std::size_t input = 0; input < inputs; ++input) row[input] += factor * a_row[input];
      }
    }
  }
}

Result<void> save_adapter(const std::string& folder, const ModelConfig& config, const LoraOptions& lora, std::span<const float> adapter, const std::string& base) {
  const std::filesystem::path place(folder);
  std::error_code error;
  std::filesystem::create_directories(place, error);
  if (error) return fail(GpuError::io, "cannot make " + folder + ": " + error.message());
  if (Result<void> done = write_whole_file((place / "adapter_config.json").string(), adapter_config_json(lora, base)); !done) return done;
  return save_parameters((place / "adapter_model.safetensors").string(), Dtype::f32, ParameterLayout(config, lora), adapter);
}

}  // namespace outlast::gpu
