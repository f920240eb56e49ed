// Trainer's part that needs other ranks: what travels in a step, and how the survivors of a loss go on.
#include <algorithm>
#include <array>
#include <cstring>

#include "gpu/files/safetensors.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/train/trainer.hpp"

namespace outlast::gpu {

void Trainer::send_gradients_of_layer(std::size_t layer) {
  if (layer + 1 == config_.layers) send_bucket(plan_.last());
  send_bucket(plan_.layer(layer));
}

void Trainer::send_bucket(const ShardPlan::Bucket& bucket) {
  if (bucket.whole.count > 0) queue_->reduce_scatter_sum(gradients_->array().part(bucket.whole.begin, bucket.whole.count));
}

Result<void> Trainer::sum_over_ranks(Sums& sums) {
  if (!queue_) return {};
  std::array<double, 6> numbers{sums.loss, sums.square, sums.rows, sums.loss_rows, sums.attended, sums.stops};
  if (Result<void> summed = ranks_->sum(numbers); !summed) return summed;
  sums = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]};
  return {};
}

std::array<Array, state_arrays> Trainer::state() const { return {weights_->array(), first_->array(), second_->array()}; }

Result<void> Trainer::keep_copies() {
  if (!copies_ || copies_->has(step_)) return {};
  return copies_->keep(step_, state(), *ranks_);
}

Result<void> Trainer::gather_piece(std::size_t array, const Part& piece, const Array& into) {
  const Array whole = state()[array];
  if (array == 0 || plan_.ranks() == 1) {
    device_.copy(into, whole.part(piece.begin, piece.count));
    return {};
  }
  device_.fill_zero(into);
  for (const ShardPlan::Overlap& overlap : plan_.overlaps(piece)) device_.copy(into.part(overlap.piece, overlap.count), whole.part(overlap.shard, overlap.count));
  return ranks_->all_reduce_sum(into);
}

void Trainer::place_piece(std::size_t array, const Part& piece, const Array& from) {
  const Array whole = state()[array];
  if (array == 0) return device_.copy(whole.part(piece.begin, piece.count), from);
  for (const ShardPlan::Overlap& overlap : plan_.overlaps(piece)) device_.copy(whole.part(overlap.shard, overlap.count), from.part(overlap.piece, overlap.count));
}

void Trainer::leave_ranks() {
  queue_.reset();
  ranks_ = nullptr;
}

// Every survivor tells what it has, and so all come to the same conclusion.
Result<std::optional<RecoveryPoint>> Trainer::find_recovery_point(Collective& ranks) const {
  std::vector<Held> told(ranks.ranks());
  Held& own = told[ranks.rank()];
  if (copies_) own[0] = copies_->held();
  if (former_copies_) own[1] = former_copies_->held();
  static_assert(sizeof(Held) % sizeof(double) == 0 && std::is_trivially_copyable_v<Held>);
  std::vector<double> numbers(told.size() * sizeof(Held) / sizeof(double));
  std::memcpy(numbers.data(), told.data(), numbers.size() * sizeof(double));
  if (Result<void> heard = ranks.sum(numbers); !heard) return fail(std::move(heard.error()));
  std::memcpy(static_cast<void*>(told.data()), numbers.data(), numbers.size() * sizeof(double));
  return recovery_point(told);
}

Result<void> Trainer::restore(const RecoveryPoint& point, const BuddyCopies& copies) {
  const bool buddy_is_lost = !point.survives((copies.rank() + copies.ranks() - 1) % copies.ranks());
  const std::size_t piece_count = std::min(tensor_piece_bytes / sizeof(float), layout_.count());
  const auto memory = device_.allocate(piece_count, Dtype::f32);
  if (!memory) return fail(memory.error());
  for (std::size_t array = 0; array < state_arrays; ++array) {
    for (std::size_t begin = 0; begin < layout_.count(); begin += piece_count) {
      const Part piece{begin, std::min(piece_count, layout_.count() - begin)};
      const Array numbers = (*memory)->array().part(0, piece.count);
      device_.fill_zero(numbers);
      copies.restore(point.step, array, piece, buddy_is_lost, numbers);
      if (Result<void> summed = ranks_->all_reduce_sum(numbers); !summed) return summed;
      place_piece(array, piece, numbers);
    }
  }
  if (working_) device_.copy(working_->array(), weights_->array());
  step_ = point.step;
  return device_.synchronize();
}

Result<bool> Trainer::regroup(Collective& ranks) {
  leave_ranks();
  const auto point = find_recovery_point(ranks);
  if (!point) return fail(point.error());
  if (*point && copies_ && copies_->generation() == (*point)->generation) former_copies_ = std::move(copies_);
  if (!*point) former_copies_.reset();
  copies_.reset();
  ranks_ = &ranks;
  plan_ = ShardPlan(layout_, config_.layers, ranks.rank(), ranks.ranks());
  if (Result<void> allocated = allocate_shard(); !allocated) return fail(std::move(allocated.error()));
  if (!*point) return false;
  if (Result<void> restored = restore(**point, *former_copies_); !restored) return fail(std::move(restored.error()));
  if (Result<void> kept = keep_copies(); !kept) return fail(std::move(kept.error()));
  // Only when the new copies are whole everywhere the former ones may go.
  double arrived = 1;
  if (Result<void> all = ranks.sum({&arrived, 1}); !all) return fail(std::move(all.error()));
  former_copies_.reset();
  return true;
}

}  // namespace outlast::gpu
