#include "gateway/rate_headers.hpp"

#include <algorithm>
#include <limits>

#include "core/check.hpp"

namespace outlast::gateway {
namespace {

std::uint64_t rounded_up(std::int64_t ns, std::uint64_t unit_ns) {
  return (static_cast<std::uint64_t>(std::max<std::int64_t>(ns, 0)) + unit_ns - 1) / unit_ns;
}

std::uint32_t header_number(std::uint64_t value) {
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(value, 1, std::numeric_limits<std::uint32_t>::max()));
}

}  // namespace

std::string duration_text(std::int64_t ns) {
  const std::uint64_t ms = rounded_up(ns, 1'000'000);
  if (ms == 0) return "0s";
  if (ms < 1000) return std::to_string(ms) + "ms";
  std::string text;
  if (ms >= 3'600'000) text += std::to_string(ms / 3'600'000) + "h";
  if (ms >= 60'000) text += std::to_string(ms / 60'000 % 60) + "m";
  text += std::to_string(ms / 1000 % 60);
  if (ms % 1000 != 0) {
    std::string fraction = std::to_string(1000 + ms % 1000).substr(1);
    fraction.erase(fraction.find_last_not_of('0') + 1);
    text += "." + fraction;
  }
  return text + "s";
}

std::uint32_t retry_after_ms(std::int64_t wait_ns) {
  return header_number(rounded_up(wait_ns, 1'000'000));
}
std::uint32_t retry_after_s(std::int64_t wait_ns) {
  return header_number(rounded_up(wait_ns, 1'000'000'000));
}

RateHeaders::RateHeaders(const RateStanding& standing) {
  if (standing.requests) {
    add(*standing.requests, {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
                             "x-ratelimit-reset-requests"});
  }
  if (standing.tokens) {
    add(*standing.tokens,
        {"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"});
  }
}

void RateHeaders::add(const RateWindow& window, const std::array<std::string_view, 3>& names) {
  texts_[size_] = std::to_string(window.limit);
  names_[size_++] = names[0];
  texts_[size_] = std::to_string(window.remaining);
  names_[size_++] = names[1];
  texts_[size_] = duration_text(window.reset_ns);
  names_[size_++] = names[2];
}

std::size_t RateHeaders::append(std::span<http::HeaderField> headers, std::size_t count) const {
  check(count + size_ <= headers.size(), "there is room for every header");
  for (std::size_t i = 0; i < size_; ++i) headers[count++] = {names_[i], texts_[i]};
  return count;
}

}  // namespace outlast::gateway
