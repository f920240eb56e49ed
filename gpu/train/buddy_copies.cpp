#include "gpu/train/buddy_copies.hpp"

#include <algorithm>

#include "core/check.hpp"

namespace outlast::gpu {

BuddyCopies::BuddyCopies(Device& device, ShardPlan own, ShardPlan buddy, std::uint64_t generation)
    : device_(device), own_plan_(std::move(own)), buddy_plan_(std::move(buddy)), generation_(generation) {}

Result<std::unique_ptr<BuddyCopies>> BuddyCopies::make(Device& device, const ParameterLayout& layout, std::size_t layers, const Collective& ranks) {
  check(ranks.ranks() > 1, "a copy is for another rank");
  const std::size_t before = (ranks.rank() + ranks.ranks() - 1) % ranks.ranks();
  std::unique_ptr<BuddyCopies> copies(new BuddyCopies(device, ShardPlan(layout, layers, ranks.rank(), ranks.ranks()),
                                                      ShardPlan(layout, layers, before, ranks.ranks()), ranks.generation()));
  for (Slot& slot : copies->slots_) {
    auto own = device.allocate(state_arrays * copies->own_plan_.shard_count(), Dtype::f32);
    if (!own) return fail(std::move(own.error()));
    auto buddy = device.allocate(state_arrays * copies->buddy_plan_.shard_count(), Dtype::f32);
    if (!buddy) return fail(std::move(buddy.error()));
    slot.own = std::move(*own);
    slot.buddy = std::move(*buddy);
  }
  return copies;
}

std::uint64_t BuddyCopies::bytes_of(std::uint64_t parameters, std::size_t ranks) {
  constexpr std::uint64_t copies = 4;  // own and buddy's, of two steps
  return ranks == 1 ? 0 : copies * state_arrays * sizeof(float) * ((parameters + ranks - 1) / ranks);
}

Result<void> BuddyCopies::keep(std::uint64_t step, const std::array<Array, state_arrays>& state, Collective& ranks) {
  Slot& slot = slots_[step % 2];
  slot.step.reset();
  const std::size_t count = own_plan_.shard_count();
  const Array own = slot.own->array();
  for (const ShardPlan::Bucket& bucket : own_plan_.buckets())
    device_.copy(own.part(bucket.shard, bucket.own.count), state[0].part(bucket.own.begin, bucket.own.count));
  for (std::size_t array = 1; array < state_arrays; ++array) device_.copy(own.part(array * count, count), state[array]);
  if (Result<void> copied = device_.synchronize(); !copied) return copied;
  if (Result<void> passed = ranks.pass_on(own, slot.buddy->array()); !passed) return passed;
  slot.step = step;
  return {};
}

HeldCopies BuddyCopies::held() const {
  const auto& [even, odd] = slots_;
  const auto last = std::max(even.step, odd.step);
  if (!last) return {};
  const auto first = even.step && odd.step ? std::min(even.step, odd.step) : last;
  const auto number = [](std::uint64_t value) { return static_cast<double>(value); };
  return {number(generation_), number(rank()), number(ranks()), number(*first), number(*last)};
}

bool BuddyCopies::has(std::uint64_t step) const { return slots_[step % 2].step == step; }

void BuddyCopies::restore(std::uint64_t step, std::size_t array, const Part& piece, bool with_buddy, const Array& into) const {
  check(has(step), "a step that is restored was kept");
  const Slot& slot = slots_[step % 2];
  const auto write = [&](const ShardPlan& plan, const Array& kept) {
    for (const ShardPlan::Overlap& overlap : plan.overlaps(piece))
      device_.copy(into.part(overlap.piece, overlap.count), kept.part(array * plan.shard_count() + overlap.shard, overlap.count));
  };
  write(own_plan_, slot.own->array());
  if (with_buddy) write(buddy_plan_, slot.buddy->array());
}

}  // namespace outlast::gpu
