// DataOrder: which sample comes when, as a function of the seed and the place alone: a run that goes on from any step, on any
// number of ranks, sees what it would have seen.
#pragma once

#include <cstdint>

namespace outlast::gpu {

// Each epoch is a permutation of its own: a Feistel network of the smallest even number of bits, walked until it is within range
// (Black and Rogaway 2002).
class DataOrder {
 public:
  // At least one sample.
  DataOrder(std::uint64_t samples, std::uint64_t seed);
  // The sample at a place, from 0 and without end.
  [[nodiscard]] std::uint64_t sample_at(std::uint64_t place) const;

 private:
  [[nodiscard]] std::uint64_t permuted(std::uint64_t value, std::uint64_t epoch) const;

  std::uint64_t samples_;
  std::uint64_t seed_;
  unsigned half_bits_ = 1;
};

}  // namespace outlast::gpu
