#include "gpu/train/data_order.hpp"

#include <bit>

#include "core/check.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu {
namespace {

constexpr int rounds = 6;

}  // namespace

DataOrder::DataOrder(std::uint64_t samples, std::uint64_t seed) : samples_(samples), seed_(seed) {
  check(samples > 0, "there is something to put in order");
  const auto bits = static_cast<unsigned>(std::bit_width(samples - 1));
  half_bits_ = bits < 2 ? 1 : (bits + 1) / 2;
}

std::uint64_t DataOrder::permuted(std::uint64_t value, std::uint64_t epoch) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t next = left ^ (noise(seed_ + epoch * 0x1'0000'0001ULL, right * rounds + static_cast<std::uint64_t>(round)) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

std::uint64_t DataOrder::sample_at(std::uint64_t place) const {
  const std::uint64_t epoch = place / samples_;
  std::uint64_t at = place % samples_;
  do {
    at = permuted(at, epoch);
  } while (at >= samples_);
  return at;
}

}  // namespace outlast::gpu
