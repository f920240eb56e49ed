#include "gpu/train/recovery_point.hpp"

#include <algorithm>

namespace outlast::gpu {

bool RecoveryPoint::survives(std::size_t rank) const { return std::binary_search(survivors.begin(), survivors.end(), rank); }

std::optional<RecoveryPoint> recovery_point(std::span<const Held> survivors) {
  if (survivors.empty()) return std::nullopt;
  // Whoever let the copies of a former generation go knows that all have those of the newer one.
  const auto newest = [](const Held& held) { return std::max(held[0].generation, held[1].generation); };
  double generation = newest(survivors[0]);
  for (const Held& held : survivors) generation = std::min(generation, newest(held));
  if (generation == 0) return std::nullopt;

  std::vector<HeldCopies> copies;
  for (const Held& held : survivors) {
    const auto at = std::find_if(held.begin(), held.end(), [generation](const HeldCopies& one) { return one.generation == generation; });
    if (at == held.end()) return std::nullopt;
    copies.push_back(*at);
  }
  const double step = std::min_element(copies.begin(), copies.end(), [](const auto& a, const auto& b) { return a.last_step < b.last_step; })->last_step;
  RecoveryPoint point{static_cast<std::uint64_t>(generation), static_cast<std::uint64_t>(step), {}};
  for (const HeldCopies& one : copies) {
    if (one.first_step > step) return std::nullopt;
    point.survivors.push_back(static_cast<std::size_t>(one.rank));
  }
  std::sort(point.survivors.begin(), point.survivors.end());
  const auto ranks = static_cast<std::size_t>(copies[0].ranks);
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    if (!point.survives(rank) && !point.survives((rank + 1) % ranks)) return std::nullopt;
  }
  return point;
}

}  // namespace outlast::gpu
