// Latency: how long attempts took, as a sum and a histogram small enough to be kept in every
// roll-up row. Sums of histograms are histograms, so that any report has percentiles. Plain values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace outlast::storage {

// Two buckets per power of two from 8 ms to 262 s: the ends of a bucket are a factor of 1.5 apart
// at most.
inline constexpr std::size_t latency_bucket_count = 32;

// The bucket that a duration counts in.
std::size_t latency_bucket_of(std::uint32_t ms);
// The shortest duration of a bucket; the last one has no end.
std::uint32_t latency_bucket_start_ms(std::size_t bucket);

struct Latency {
  std::uint64_t sum_ms = 0;
  std::array<std::uint32_t, latency_bucket_count> counts{};  // each stops at 2^32 - 1

  bool operator==(const Latency&) const = default;
  Latency& operator+=(const Latency& other);
  void add(std::uint32_t ms);
  [[nodiscard]] std::uint64_t count() const;
  // Rounded down; 0 of none.
  [[nodiscard]] std::uint64_t mean_ms() const;
  // The duration that `percent` of 100 do not exceed, interpolated within its bucket; 0 of none.
  [[nodiscard]] std::uint64_t percentile_ms(unsigned percent) const;
};

}  // namespace outlast::storage
