// Gcra: the generic cell rate algorithm (ITU-T I.371): at most `burst + rate × time` over any
// stretch of time, held in one number, the theoretical arrival time. Taking n moves it n intervals
// on; it may not be further ahead of now than the burst is worth.
//
// The arrival time is counted not in nanoseconds but in fractions of what is limited (`one_` of
// them are one request or one token). A cost is then a whole number whatever the rate, so no
// rounding adds up; only the clock is rounded, by less than a nanosecond.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>

namespace outlast::gateway {

// Immutable; any thread. Time is an argument, in nanoseconds that do not go back; where it does,
// less is admitted, never more.
class Gcra {
 public:
  using State = std::atomic<std::int64_t>;  // starts at 0, "long ago": the whole burst is there
  // A state that was taken away from its owner (rate_state_table.hpp): nobody may write it.
  static constexpr std::int64_t retired = std::numeric_limits<std::int64_t>::min();
  static constexpr std::uint64_t rate_max = 10'000'000'000;  // per minute, and at once
  static constexpr std::uint64_t debt_minutes_max = 60;

  enum class Outcome : std::uint8_t { done = 0, refused = 1, retired = 2 };

  // Both from 1 to rate_max.
  Gcra(std::uint64_t per_minute, std::uint64_t burst);

  [[nodiscard]] std::uint64_t burst() const { return burst_; }
  // Now on the scale of states.
  [[nodiscard]] std::int64_t at(std::int64_t now_ns) const {
    const std::int64_t ns = std::clamp<std::int64_t>(now_ns, 0, ns_max);
    return static_cast<std::int64_t>(static_cast<unsigned __int128>(ns) * per_ns_numerator_ /
                                     minute_ns);
  }
  // What is taken for n: a request that is larger than the burst passes alone, when everything is
  // there, and what it used beyond is charged at its end. It would never pass otherwise.
  [[nodiscard]] std::uint64_t bounded(std::uint64_t n) const { return std::min(n, burst_); }

  // Whether n (bounded) can be taken.
  [[nodiscard]] bool fits(std::int64_t state, std::uint64_t n, std::int64_t now) const {
    return std::max(state, now) + cost(n) - now <= capacity_;
  }
  // Takes n (bounded) or nothing. `valid` says, after each look at the state, whether it still is
  // the caller's. `until` becomes the arrival time that this take led to.
  template <class Valid>
  Outcome take(State& state, std::uint64_t n, std::int64_t now, std::int64_t& until,
               const Valid& valid) const {
    std::int64_t seen = state.load(std::memory_order_acquire);
    while (true) {
      if (seen == retired || !valid()) return Outcome::retired;
      if (!fits(seen, n, now)) return Outcome::refused;
      until = std::max(seen, now) + cost(n);
      if (state.compare_exchange_weak(seen, until, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
        return Outcome::done;
      }
    }
  }
  // Ends a take of `taken`, which led to `until`, with what was used. Gives back the difference, as
  // far as time has not brought it back already, and never below now; or charges it, at most
  // debt_minutes_max beyond the burst.
  template <class Valid>
  void settle(State& state, std::uint64_t taken, std::uint64_t used, std::int64_t until,
              std::int64_t now, const Valid& valid) const {
    if (taken == used) return;
    const std::int64_t given =
        used < taken ? std::min(cost(taken - used), std::max<std::int64_t>(until - now, 0)) : 0;
    const std::int64_t charged = used > taken ? cost(std::min(used - taken, debt_max_)) : 0;
    std::int64_t seen = state.load(std::memory_order_acquire);
    while (seen != retired && valid()) {
      const std::int64_t next = charged > 0
                                    ? std::max(seen, std::min(std::max(seen, now) + charged,
                                                              now + capacity_ + cost(debt_max_)))
                                    : std::max(seen - given, std::min(seen, now));
      if (next == seen) return;
      if (state.compare_exchange_weak(seen, next, std::memory_order_acq_rel,
                                      std::memory_order_acquire))
        return;
    }
  }

  // Until n (bounded) can be taken if nobody else takes any; 0 when it can now.
  [[nodiscard]] std::int64_t wait_ns(std::int64_t state, std::uint64_t n,
                                     std::int64_t now_ns) const;
  // What could be taken now.
  [[nodiscard]] std::uint64_t remaining(std::int64_t state, std::int64_t now_ns) const;
  // Until the whole burst is there again.
  [[nodiscard]] std::int64_t reset_ns(std::int64_t state, std::int64_t now_ns) const;

 private:
  static constexpr std::uint64_t minute_ns = 60'000'000'000;
  static constexpr std::uint64_t minutes_max = 16'000'000;  // thirty years of uptime
  static constexpr std::int64_t ns_max = static_cast<std::int64_t>(minutes_max * minute_ns);

  [[nodiscard]] std::int64_t cost(std::uint64_t n) const {
    return static_cast<std::int64_t>(n * one_);
  }
  // The first nanosecond at which at() is `position` or more.
  [[nodiscard]] std::int64_t reached_ns(std::int64_t position) const;

  std::uint64_t burst_;
  std::uint64_t debt_max_;
  std::uint64_t one_;               // fractions of one
  std::uint64_t per_ns_numerator_;  // fractions per minute
  std::int64_t capacity_;
};

}  // namespace outlast::gateway
