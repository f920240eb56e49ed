// Noise that depends on a seed and a place only: the same on every device, whatever drew before (Salmon et al. 2011, the idea
// of counter-based generators; the mixing is SplitMix64's).
#pragma once

#include <cstdint>
#include <span>

namespace outlast::gpu {

constexpr std::uint64_t mixed(std::uint64_t x) {
  x += 0x9E37'79B9'7F4A'7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58'476D'1CE4'E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D0'49BB'1331'11EBULL;
  return x ^ (x >> 31);
}
constexpr std::uint64_t noise(std::uint64_t seed, std::uint64_t place) { return mixed(mixed(seed) ^ mixed(place + 0x5851'F42D'4C95'7F2DULL)); }

// From N(0, deviation²): number i is of place `first` + i.
void fill_normal(std::span<float> numbers, std::uint64_t seed, std::uint64_t first, float deviation);

}  // namespace outlast::gpu
