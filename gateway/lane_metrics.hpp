// LaneMetrics: what one lane counts. Written by the lane, read by whoever renders /metrics: relaxed atomics, any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "gateway/rate_scope.hpp"

namespace outlast::gateway {

class Counter {
 public:
  // One writer, so no locked instruction is needed.
  void add(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void subtract(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Upper bounds in milliseconds; the last bucket has none.
inline constexpr std::array<std::uint32_t, 12> latency_bounds_ms = {1,   5,    10,   25,   50,    100,
                                                                    250, 500, 1000, 5000, 30000, 120000};

struct LatencyHistogram {
  std::array<Counter, latency_bounds_ms.size() + 1> buckets;
  Counter sum_ms;

  void add(std::uint64_t ms) {
    std::size_t i = 0;
    while (i < latency_bounds_ms.size() && ms > latency_bounds_ms[i]) ++i;
    buckets[i].add();
    sum_ms.add(ms);
  }
};

struct LaneMetrics {
  Counter requests;             // chat requests with a valid key
  Counter requests_in_flight;
  Counter answered;             // to their end
  Counter refused;              // an error answer of ours or of the provider
  Counter unauthorised;
  Counter cut;                  // failed after the first content
  Counter callers_gone;
  Counter attempts;
  Counter failovers;            // attempts after the first
  Counter usage_estimated;
  Counter unpriced;
  Counter ledger_refusals;      // reservations that the ledger did not take
  Counter admitted_in_slice;    // under a hard budget, from the node's slices
  Counter admitted_in_step;     // under a hard budget, by the ledger's word
  Counter budget_refusals;      // before the first content
  Counter budget_cuts;          // of streams whose next tranche was refused
  Counter extensions;
  Counter answers_replayed;     // of a repeated Idempotency-Key
  Counter idempotency_refusals;
  Counter spend_held;           // by an open spend breaker
  Counter spend_throttled;
  // By RateScopeKind: {limits of requests, limits of tokens} that refused a request, or left out a deployment.
  std::array<std::array<Counter, 2>, std::size(rate_scope_kind_names)> limited;
  Counter connections_open;     // mirrored from the HTTP server by the lane's sweep
  Counter connections_accepted;
  Counter protocol_errors;
  LatencyHistogram first_content_ms;
  LatencyHistogram duration_ms;
};

}  // namespace outlast::gateway
