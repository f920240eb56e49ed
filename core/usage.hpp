// Usage: what one upstream attempt consumed, in disjoint buckets, so that nothing is charged twice or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace outlast {

// Where the counts come from. A reported zero is a zero and is never replaced by an estimate.
enum class UsageSource : std::uint8_t { absent = 0, estimated = 1, reported = 2 };

// Tokens, unless the name says otherwise.
struct Usage {
  std::uint64_t input_uncached = 0;
  std::uint64_t input_cache_read = 0;
  std::uint64_t input_cache_write_5m = 0;
  std::uint64_t input_cache_write_1h = 0;
  std::uint64_t input_audio = 0;
  std::uint64_t input_image = 0;
  std::uint64_t output_text = 0;
  std::uint64_t output_reasoning = 0;
  std::uint64_t output_audio = 0;
  UsageSource source = UsageSource::absent;

  bool operator==(const Usage&) const = default;
  [[nodiscard]] std::uint64_t input_total() const {
    return input_uncached + input_cache_read + input_cache_write_5m + input_cache_write_1h + input_audio + input_image;
  }
  [[nodiscard]] std::uint64_t output_total() const { return output_text + output_reasoning + output_audio; }
};

// The buckets by name, in the order of storage: one list for schemas, reports and prices.
struct UsageBucket {
  std::string_view name;
  std::uint64_t Usage::*member;
};
inline constexpr UsageBucket usage_buckets[] = {
    {"input_uncached", &Usage::input_uncached},
    {"input_cache_read", &Usage::input_cache_read},
    {"input_cache_write_5m", &Usage::input_cache_write_5m},
    {"input_cache_write_1h", &Usage::input_cache_write_1h},
    {"input_audio", &Usage::input_audio},
    {"input_image", &Usage::input_image},
    {"output_text", &Usage::output_text},
    {"output_reasoning", &Usage::output_reasoning},
    {"output_audio", &Usage::output_audio},
};
inline constexpr std::size_t usage_bucket_count = sizeof(usage_buckets) / sizeof(usage_buckets[0]);

}  // namespace outlast
