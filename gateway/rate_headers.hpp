// The headers of rate limits as OpenAI's SDKs read them:
// x-ratelimit-{limit,remaining,reset}-{requests,tokens}.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "gateway/rate_limit.hpp"
#include "http/types.hpp"

namespace outlast::gateway {

// As OpenAI writes durations (Go's way), rounded up to a millisecond: "0s", "12ms", "1.2s", "6m0s",
// "1h0m2.5s".
std::string duration_text(std::int64_t ns);
// As integers, rounded up, at least 1: what is waited suffices.
std::uint32_t retry_after_ms(std::int64_t wait_ns);
std::uint32_t retry_after_s(std::int64_t wait_ns);

// Owns the text that its fields view.
class RateHeaders {
 public:
  static constexpr std::size_t fields_max = 6;
  explicit RateHeaders(const RateStanding& standing);
  RateHeaders(const RateHeaders&) = delete;
  RateHeaders& operator=(const RateHeaders&) = delete;

  // Puts the fields behind the first `count` of `headers`; returns how many there are then.
  std::size_t append(std::span<http::HeaderField> headers, std::size_t count) const;

 private:
  void add(const RateWindow& window, const std::array<std::string_view, 3>& names);

  std::array<std::string, fields_max> texts_;  // short: none of them allocates
  std::array<std::string_view, fields_max> names_;
  std::size_t size_ = 0;
};

}  // namespace outlast::gateway
