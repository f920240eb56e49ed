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
inline constexpr std::size_t general_input = 0;   // input_uncached: what tokens in are where nothing more is said
inline constexpr std::size_t general_output = 6;  // output_text
inline constexpr std::size_t input_bucket_count = 6;  // they go before those of the output
static_assert(usage_buckets[input_bucket_count - 1].name.starts_with("input") &&
              usage_buckets[input_bucket_count].name.starts_with("output"));

// What a provider bills by the piece beside tokens, as far as it reports it.
struct BilledUnits {
  std::uint64_t images = 0;
  std::uint64_t seconds = 0;   // of audio or video
  std::uint64_t queries = 0;   // searches by the provider's own tool
  std::uint64_t sessions = 0;  // of the provider's own tools, such as a code interpreter
  bool operator==(const BilledUnits&) const = default;
};

struct BilledUnit {
  std::string_view name;   // of one piece
  std::string_view plural;
  std::uint64_t BilledUnits::*member;
};
inline constexpr BilledUnit billed_units[] = {
    {"image", "images", &BilledUnits::images},
    {"second", "seconds", &BilledUnits::seconds},
    {"query", "queries", &BilledUnits::queries},
    {"session", "sessions", &BilledUnits::sessions},
};
inline constexpr std::size_t billed_unit_count = sizeof(billed_units) / sizeof(billed_units[0]);

}  // namespace outlast
