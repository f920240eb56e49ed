// BuddyCopies: what a rank keeps so that a run survives the loss of another one: its own weights and moments of the last two steps,
// and those of the rank before it. Two, because when a rank is lost some may have completed a step that others have not: they all go
// back to the last one that all completed. No rank is ever more than one step ahead, as each step has sums over all ranks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>

#include "gpu/collective/collective.hpp"
#include "gpu/device.hpp"
#include "gpu/train/recovery_point.hpp"
#include "gpu/train/shard_plan.hpp"

namespace outlast::gpu {

inline constexpr std::size_t state_arrays = 3;  // weights, first and second moments

// One owner.
class BuddyCopies {
 public:
  // Of a rank among at least two, as they are in this generation. `device` outlives it. Errors: too_large.
  static Result<std::unique_ptr<BuddyCopies>> make(Device& device, const ParameterLayout& layout, std::size_t layers, const Collective& ranks);
  static std::uint64_t bytes_of(std::uint64_t parameters, std::size_t ranks);

  // Copies the state after a step, and passes it on: the step is complete when this returns. `state`: the weights f32 [parameters],
  // the moments f32 [shard_count]. Errors: as of Collective; then the copies of the steps before are whole.
  Result<void> keep(std::uint64_t step, const std::array<Array, state_arrays>& state, Collective& ranks);

  // As after another beginning: there are no copies.
  void forget() {
    for (Slot& slot : slots_) slot.step.reset();
  }

  [[nodiscard]] std::uint64_t generation() const { return generation_; }
  [[nodiscard]] std::size_t rank() const { return own_plan_.rank(); }
  [[nodiscard]] std::size_t ranks() const { return own_plan_.ranks(); }
  [[nodiscard]] HeldCopies held() const;
  [[nodiscard]] bool has(std::uint64_t step) const;

  // Writes what is known of a piece of one array after a step, the rest is left: this rank's part of it, or also the part of the
  // rank before. `into`: f32 [piece.count].
  void restore(std::uint64_t step, std::size_t array, const Part& piece, bool with_buddy, const Array& into) const;

 private:
  struct Slot {
    std::unique_ptr<Memory> own;    // f32 [state_arrays, shard_count]
    std::unique_ptr<Memory> buddy;  // f32 [state_arrays, the other's shard_count]
    std::optional<std::uint64_t> step;
  };
  BuddyCopies(Device& device, ShardPlan own, ShardPlan buddy, std::uint64_t generation);

  Device& device_;
  const ShardPlan own_plan_;
  const ShardPlan buddy_plan_;  // of the rank before
  const std::uint64_t generation_;
  std::array<Slot, 2> slots_;   // by step, odd and even
};

}  // namespace outlast::gpu
