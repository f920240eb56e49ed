#include "gpu/model/noise.hpp"

#include <cmath>
#include <numbers>

namespace outlast::gpu {

// Box and Muller, with one number of each pair.
void fill_normal(std::span<float> numbers, std::uint64_t seed, std::uint64_t first, float deviation) {
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint64_t bits = noise(seed, first + i);
    const double radius = std::sqrt(-2.0 * std::log(static_cast<double>((bits >> 32) + 1) * 0x1p-32));
    const double angle = 2.0 * std::numbers::pi * static_cast<double>(bits & 0xFFFF'FFFFULL) * 0x1p-32;
    numbers[i] = deviation * static_cast<float>(radius * std::cos(angle));
  }
}

}  // namespace outlast::gpu
