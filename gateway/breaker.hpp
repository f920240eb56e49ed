// Breaker: opens when a deployment fails, lets one probe through after a while, closes when the probe succeeds.
// Pure: time and randomness are arguments. Owned by the deployment's provider actor.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "core/metering.hpp"
#include "core/random.hpp"

namespace outlast::gateway {

enum class BreakerState : std::uint8_t { closed = 0, open = 1, half_open = 2 };
inline constexpr std::string_view breaker_state_names[] = {"closed", "open", "half_open"};
inline std::string_view name_of(BreakerState state) { return breaker_state_names[static_cast<std::size_t>(state)]; }

struct BreakerPolicy {
  std::uint32_t consecutive_failures = 5;    // so many in a row open it
  std::uint32_t window_ms = 10'000;          // or, within this sliding window of ten slots,
  std::uint32_t window_requests_min = 20;    //   of at least so many requests,
  std::uint32_t window_failures_percent = 50;  // so many percent failures
  std::uint32_t open_ms = 1'000;             // first time; doubles with each failed probe
  std::uint32_t open_ms_max = 60'000;
  std::uint32_t credential_open_ms = 60'000;   // a refused credential heals by a person, not by time
};

// What lanes saw of one deployment since their last report.
struct Outcome {
  std::uint32_t successes = 0;
  std::uint32_t failures = 0;                       // overloaded, cut, model_gone
  std::uint32_t credential_failures = 0;
  std::optional<std::uint32_t> throttled_ms;        // the longest wait that the provider asked for
  bool probe = false;                               // one of them was the half-open probe
  bool probe_neutral = false;                       // the probe ended without telling anything (caller gone)
};

class Breaker {
 public:
  explicit Breaker(BreakerPolicy policy, std::uint64_t seed) : policy_(policy), random_(seed) {}

  void record(const Outcome& outcome, std::int64_t now_ns);
  // `half_open` once the time of an open breaker is over: one probe may go.
  [[nodiscard]] BreakerState state(std::int64_t now_ns) const;
  // When an open breaker becomes half-open; meaningless while closed.
  [[nodiscard]] std::int64_t open_until_ns() const { return open_until_ns_; }
  [[nodiscard]] bool is_closed() const { return !open_; }
  [[nodiscard]] std::uint32_t consecutive_failures() const { return consecutive_failures_; }

 private:
  struct Slot {
    std::int64_t number = -1;
    std::uint32_t requests = 0;
    std::uint32_t failures = 0;
  };
  static constexpr std::size_t slots = 10;

  void open_for(std::uint64_t duration_ms, std::int64_t now_ns);
  void count(std::uint32_t requests, std::uint32_t failures, std::int64_t now_ns);
  [[nodiscard]] bool window_failing(std::int64_t now_ns) const;

  BreakerPolicy policy_;
  Random random_;
  bool open_ = false;
  std::int64_t open_until_ns_ = 0;
  std::uint32_t openings_ = 0;  // in a row, without a success between
  std::uint32_t consecutive_failures_ = 0;
  std::array<Slot, slots> window_;
};

}  // namespace outlast::gateway
