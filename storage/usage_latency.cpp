#include "storage/usage_latency.hpp"

#include <bit>
#include <limits>

namespace outlast::storage {
namespace {

constexpr unsigned first_octave = 3;  // 2^3 = 8 ms: all below is one bucket

std::uint32_t saturating_add(std::uint32_t a, std::uint32_t b) {
  std::uint32_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? std::numeric_limits<std::uint32_t>::max() : sum;
}

}  // namespace

std::size_t latency_bucket_of(std::uint32_t ms) {
  if (ms < 1U << first_octave) return 0;
  const auto octave = static_cast<unsigned>(std::bit_width(ms)) - 1;
  const std::size_t bucket =
      1 + std::size_t{2} * (octave - first_octave) + (ms >> (octave - 1) & 1);
  return bucket < latency_bucket_count ? bucket : latency_bucket_count - 1;
}

std::uint32_t latency_bucket_start_ms(std::size_t bucket) {
  if (bucket == 0) return 0;
  const std::size_t octave = first_octave + (bucket - 1) / 2;
  return static_cast<std::uint32_t>((2 + (bucket - 1) % 2) << (octave - 1));
}

Latency& Latency::operator+=(const Latency& other) {
  sum_ms += other.sum_ms;
  for (std::size_t i = 0; i < counts.size(); ++i)
    counts[i] = saturating_add(counts[i], other.counts[i]);
  return *this;
}

void Latency::add(std::uint32_t ms) {
  sum_ms += ms;
  std::uint32_t& count = counts[latency_bucket_of(ms)];
  count = saturating_add(count, 1);
}

std::uint64_t Latency::count() const {
  std::uint64_t sum = 0;
  for (const std::uint32_t count : counts) sum += count;
  return sum;
}

std::uint64_t Latency::mean_ms() const {
  const std::uint64_t all = count();
  return all == 0 ? 0 : sum_ms / all;
}

std::uint64_t Latency::percentile_ms(unsigned percent) const {
  const std::uint64_t all = count();
  if (all == 0) return 0;
  std::uint64_t rank = (all * percent + 99) / 100;  // of the sought one, from 1
  if (rank == 0) rank = 1;
  std::size_t bucket = 0;
  while (rank > counts[bucket]) rank -= counts[bucket++];
  const std::uint64_t start = latency_bucket_start_ms(bucket);
  if (bucket + 1 == latency_bucket_count) return start;  // nothing says how far it reaches
  const std::uint64_t width = latency_bucket_start_ms(bucket + 1) - start;
  // Durations spread evenly over their bucket: the middle of the rank's share of it.
  return start + width * (2 * rank - 1) / (2 * std::uint64_t{counts[bucket]});
}

}  // namespace outlast::storage
