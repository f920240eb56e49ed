#include "gpu/model/lora.hpp"

#include <algorithm>
#include <cmath>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr PerLoraTarget<const char*> target_modules{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                                                    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};

}  // namespace

std::string_view name_of(LoraTarget target) {
  const std::string_view module = target_modules[static_cast<std::size_t>(target)];
  return module.substr(module.find('.') + 1);
}

Result<PerLoraTarget<bool>> parse_lora_targets(std::span<const std::string> names) {
  if (names.empty()) return LoraOptions{}.targets;
  PerLoraTarget<bool> chosen{};
  for (const std::string& name : names) {
    const auto target = std::find_if(lora_targets.begin(), lora_targets.end(), [&name](LoraTarget one) { return name_of(one) == name; });
    if (target == lora_targets.end()) {
      std::string known;
      for (const LoraTarget one : lora_targets) known.append(known.empty() ? "" : ", ").append(name_of(one));
      return fail(GpuError::invalid, "LoRA has no target '" + name + "'; there are " + known);
    }
    chosen[static_cast<std::size_t>(*target)] = true;
  }
  return chosen;
}

Result<void> check_lora(const ModelConfig& config, const LoraOptions& lora) {
  if (lora.rank == 0) return {};
  const std::uint32_t rank_max = std::min(lora_rank_max, config.hidden);
  if (lora.rank > rank_max)
    return fail(GpuError::invalid, "a LoRA rank of " + std::to_string(lora.rank) + " is above " + std::to_string(rank_max) + ", the most for this model");
  if (!(lora.alpha > 0 && lora.alpha <= lora_alpha_max)) return fail(GpuError::invalid, "LoRA's alpha is above 0 and at most 65536");
  if (std::none_of(lora.targets.begin(), lora.targets.end(), [](bool one) { return one; })) return fail(GpuError::invalid, "LoRA has at least one target");
  return {};
}

Projection projection_of(const ModelConfig& config, LoraTarget target) {
  const std::size_t hidden = config.hidden;
  const std::size_t intermediate = config.intermediate;
  const std::size_t q = config.q_width();
  const std::size_t kv = config.kv_width();
  const std::string module = target_modules[static_cast<std::size_t>(target)];
  switch (target) {
    case LoraTarget::q: return {module, hidden, q, 0, q + 2 * kv};
    case LoraTarget::k: return {module, hidden, kv, q, q + 2 * kv};
    case LoraTarget::v: return {module, hidden, kv, q + kv, q + 2 * kv};
    case LoraTarget::o: return {module, q, hidden, 0, hidden};
    case LoraTarget::gate: return {module, hidden, intermediate, 0, 2 * intermediate};
    case LoraTarget::up: return {module, hidden, intermediate, intermediate, 2 * intermediate};
    case LoraTarget::down: break;
  }
  return {module, intermediate, hidden, 0, hidden};
}

std::uint64_t lora_parameters(const ModelConfig& config, const LoraOptions& lora) {
  std::uint64_t of_layer = 0;
  for (const LoraTarget target : lora_targets) {
    const Projection projection = projection_of(config, target);
    if (lora.has(target)) of_layer += std::uint64_t{lora.rank} * (projection.inputs + projection.outputs);
  }
  return of_layer * config.layers;
}

}  // namespace outlast::gpu
