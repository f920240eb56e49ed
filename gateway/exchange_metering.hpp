// What an exchange tells the ledger: the worst case before the first attempt, and a line per attempt after it. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/metering.hpp"
#include "core/result.hpp"
#include "core/virtual_key.hpp"
#include "gateway/dialect.hpp"
#include "gateway/snapshot.hpp"

namespace outlast::gateway {

// Bytes of prompt template that a provider may add, in tokens, for the input bound.
inline constexpr std::uint64_t template_tokens_max = 512;
// For estimates when a provider reports no usage.
inline constexpr std::uint64_t bytes_per_token_estimate = 4;
// No answer is as long; a larger max_tokens is reserved as this, so that sums and products stay exact.
inline constexpr std::uint64_t output_tokens_max_per_choice = 1'000'000'000;

// The bound on output tokens that is reserved for, and forced upstream where the caller gave none.
std::uint64_t output_tokens_bound(const ChatHead& head, const ServingPolicy& serving);

// The dearest of the planned deployments at the most tokens that the request can cost: a token has at least one byte,
// so `input_bytes` bounds the input. `time_ms` is the request's, from its id: it chooses the prices. Refuses (RoutingError) when a price is missing and the policy says to refuse.
Result<Reservation> worst_case_reservation(const Snapshot& snapshot, std::span<const std::uint32_t> deployments,
                                           const VirtualKey& key, const ChatHead& head, std::uint64_t input_bytes,
                                           std::int64_t time_ms);

// The dearest of the deployments, like the reservation's.
PicoUsd worst_case_amount(const Snapshot& snapshot, std::span<const std::uint32_t> deployments,
                          std::uint64_t input_tokens_max, std::uint64_t output_tokens_max, std::int64_t time_ms);

// How one attempt ended, as the lane saw it.
struct AttemptFacts {
  std::uint16_t number = 1;
  AttemptStatus status = AttemptStatus::ok;
  std::uint16_t http_status = 0;
  Usage usage;                       // as reported; absent where the provider told nothing
  std::uint64_t input_bytes = 0;     // of the request that was sent
  std::uint64_t content_bytes = 0;   // of the answer that came
  std::uint64_t output_tokens_max = 0;  // as reserved: bounds an estimate
  std::uint32_t first_event_ms = 0;
  std::uint32_t duration_ms = 0;
  BillingTerms terms;                // as answered
};

// Prices the attempt by what was answered, at the time of `request_id`. Where content came but no usage, both are estimated from bytes and marked so. A failed attempt
// that brought neither costs nothing; one that the caller left costs its input, which the provider has read.
AttemptLine make_attempt_line(const Snapshot& snapshot, std::uint32_t deployment, const RequestId& request_id,
                              const AttemptFacts& facts);

}  // namespace outlast::gateway
