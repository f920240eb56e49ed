// LoRA (Hu et al. 2021): beside a frozen matrix W a product of two thin ones is learned,
//   out = x · Wᵀ + alpha / rank · (x · Aᵀ) · Bᵀ,   A [rank, inputs], B [outputs, rank],
// for the chosen projections of every layer. B begins as zero, and so the model as it was.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "gpu/array.hpp"
#include "gpu/files/model_config.hpp"

namespace outlast::gpu {

// In the order of a layer's work. Append-only: checkpoints have their names.
enum class LoraTarget : std::uint8_t { q, k, v, o, gate, up, down };
inline constexpr std::array lora_targets{LoraTarget::q, LoraTarget::k, LoraTarget::v, LoraTarget::o, LoraTarget::gate, LoraTarget::up, LoraTarget::down};
template <class T>
using PerLoraTarget = std::array<T, lora_targets.size()>;

inline constexpr std::uint32_t lora_rank_max = 1'024;
inline constexpr double lora_alpha_max = 65'536;

struct LoraOptions {
  std::uint32_t rank = 0;  // 0: no LoRA, every weight is learned
  double alpha = 0;
  PerLoraTarget<bool> targets{true, true, true, true, true, true, true};

  [[nodiscard]] bool has(LoraTarget target) const { return rank > 0 && targets[static_cast<std::size_t>(target)]; }
  [[nodiscard]] float scale() const { return static_cast<float>(alpha / rank); }
  bool operator==(const LoraOptions&) const = default;
};
// Errors: invalid, with the bounds.
Result<void> check_lora(const ModelConfig& config, const LoraOptions& lora);

// "q_proj", as the modules are called in `transformers`.
std::string_view name_of(LoraTarget target);
// Those that are named; all where none is. Errors: invalid, with the names there are.
Result<PerLoraTarget<bool>> parse_lora_targets(std::span<const std::string> names);

// A projection, and where its outputs lie among those that one multiplication makes (q beside k and v, gate beside up).
struct Projection {
  std::string module;       // of a layer: "self_attn.q_proj"
  std::size_t inputs = 0;
  std::size_t outputs = 0;
  std::size_t first = 0;    // its first output among all of the multiplication
  std::size_t all = 0;      // outputs of the multiplication
};
Projection projection_of(const ModelConfig& config, LoraTarget target);

// Numbers that are learned; 0 without LoRA.
std::uint64_t lora_parameters(const ModelConfig& config, const LoraOptions& lora);

// Of one projection of one layer, in a flat array of weights or of gradients.
struct LoraWeights {
  Array a;  // [rank, inputs], or empty: the projection has no adapter
  Array b;  // [outputs, rank]
};

}  // namespace outlast::gpu
