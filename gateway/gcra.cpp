#include "gateway/gcra.hpp"

#include "core/check.hpp"

namespace outlast::gateway {

Gcra::Gcra(std::uint64_t per_minute, std::uint64_t burst)
    : burst_(burst), debt_max_(per_minute * debt_minutes_max) {
  check(per_minute >= 1 && per_minute <= rate_max, "a rate is from 1 to rate_max");
  check(burst >= 1 && burst <= rate_max, "a burst is from 1 to rate_max");
  // The finest fractions with which thirty years, the burst and the debt fit well into 63 bits.
  constexpr std::uint64_t positions_max = 1ULL << 61;
  const std::uint64_t most = per_minute * (minutes_max + 2 * debt_minutes_max) + 2 * burst;
  one_ = 1;
  while (one_ * 2 <= positions_max / most) one_ *= 2;
  per_ns_numerator_ = per_minute * one_;
  capacity_ = cost(burst);
}

std::int64_t Gcra::wait_ns(std::int64_t state, std::uint64_t n, std::int64_t now_ns) const {
  const std::int64_t now = at(now_ns);
  if (fits(state, n, now)) return 0;
  return std::max<std::int64_t>(reached_ns(state + cost(n) - capacity_) - now_ns, 1);
}

std::uint64_t Gcra::remaining(std::int64_t state, std::int64_t now_ns) const {
  const std::int64_t now = at(now_ns);
  const std::int64_t left = capacity_ - (std::max(state, now) - now);
  return left <= 0 ? 0 : static_cast<std::uint64_t>(left) / one_;
}

std::int64_t Gcra::reset_ns(std::int64_t state, std::int64_t now_ns) const {
  return state <= at(now_ns) ? 0 : std::max<std::int64_t>(reached_ns(state) - now_ns, 1);
}

std::int64_t Gcra::reached_ns(std::int64_t position) const {
  const auto scaled =
      static_cast<unsigned __int128>(std::max<std::int64_t>(position, 0)) * minute_ns;
  return static_cast<std::int64_t>((scaled + per_ns_numerator_ - 1) / per_ns_numerator_);
}

}  // namespace outlast::gateway
