// Randomness: a seeded generator that replays, and the kernel's bytes for secrets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace outlast {

// SplitMix64 (Steele, Lea, Flood 2014): small, fast, replays from a seed. Not for secrets. One owner.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound); bound > 0.
  std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }
  // Uniform in [0, 1).
  double fraction() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

 private:
  std::uint64_t state_;
};

// Fills from getrandom(2); aborts if the kernel has none. Any thread.
void secure_random(std::span<std::byte> out);
std::uint64_t secure_seed();

}  // namespace outlast
