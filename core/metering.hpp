// Metering: what a lane tells the ledger about one request, as plain values. The ledger's entries are made of these.
//
//   reserve            before the first upstream is asked: counts against limits at once
//   extend (0..n)      more of the same, for a long stream
//   attempt (0..n)     one line per upstream attempt that did not serve the request
//   settle or void     exactly one of them ends the reservation
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/crypto.hpp"
#include "core/id.hpp"
#include "core/money.hpp"
#include "core/result.hpp"
#include "core/tenant.hpp"
#include "core/usage.hpp"

namespace outlast {

// A provider and a model as it serves it: what money may go to.
struct Purchase {
  std::string provider;
  std::string model;
  bool operator==(const Purchase&) const = default;
};

// What the caller's `Idempotency-Key` says, so that a request that comes again is charged once.
struct IdempotencyKey {
  Digest key{};         // SHA-256 of the virtual key's id and the header
  Digest parameters{};  // SHA-256 of the body
  bool operator==(const IdempotencyKey&) const = default;
};

struct Reservation {
  RequestId request_id;
  TenantPath tenant;
  std::string key_id;
  std::string route;            // what the caller asked for: a route or a model name
  PicoUsd amount;               // the worst case; zero where the price is unknown
  bool price_known = false;
  std::uint64_t input_tokens_max = 0;
  std::uint64_t output_tokens_max = 0;
  std::vector<std::string> tags;     // the caller's, each at most 64 bytes; at most 8
  std::string session;               // the caller's name for a run of an agent; empty for none
  std::vector<Purchase> candidates;  // in the order of the plan; the first is the likeliest
  // The lane took `amount` from the node's slice of every hard budget on the path. False: the ledger decides from what
  // is not sliced, and the lane waits for its word before it asks a provider.
  bool from_slices = false;
  std::optional<IdempotencyKey> idempotency;
  // The process that reserves, in a cluster; nil: the one that writes the ledger.
  Incarnation holder{};

  bool operator==(const Reservation&) const = default;
};

// More for an open reservation, before its stream goes beyond what was reserved. Adds to the worst case.
struct ReservationExtension {
  RequestId request_id;
  std::uint16_t number = 0;  // from 1, each once
  PicoUsd amount;
  std::uint64_t output_tokens = 0;
  bool from_slices = false;
  bool operator==(const ReservationExtension&) const = default;
};

enum class AttemptStatus : std::uint8_t {
  ok = 0,                // the answer was served to its end
  refused = 1,           // the caller's fault by the provider's word (4xx)
  credential = 2,        // the gateway's credential or quota
  throttled = 3,
  overloaded = 4,        // 5xx, reset, connect failure, first-event time-out
  model_gone = 5,
  cut = 6,               // failed after the first content
  caller_gone = 7,       // the caller disconnected in mid-answer
  in_doubt = 8,          // the process died; settled at restart
};
inline constexpr std::string_view attempt_status_names[] = {"ok",         "refused", "credential",  "throttled", "overloaded",
                                                            "model_gone", "cut",     "caller_gone", "in_doubt"};
inline std::string_view name_of(AttemptStatus status) { return attempt_status_names[static_cast<std::size_t>(status)]; }

// How a provider says that it bills an attempt, beside tokens: as answered, whatever was asked for.
struct BillingTerms {
  std::string service_tier;   // "default", "priority", "standard", …; empty where nothing was said
  std::string inference_geo;
  bool batch = false;
  BilledUnits units;
  bool operator==(const BillingTerms&) const = default;
};
inline constexpr std::size_t billing_text_bytes_max = 64;

// One upstream attempt and what it cost.
struct AttemptLine {
  RequestId request_id;
  std::uint16_t number = 0;     // from 1
  std::string deployment;
  std::string provider;
  std::string model;            // as the provider knows it
  AttemptStatus status = AttemptStatus::ok;
  std::uint16_t http_status = 0;  // the provider's; 0 when no answer came
  Usage usage;
  PicoUsd cost;
  bool price_known = false;
  std::string price_version;
  std::uint32_t first_event_ms = 0;  // from the attempt's start; 0 when none came
  std::uint32_t duration_ms = 0;
  std::string service_tier;     // as answered; this and the next two are at most billing_text_bytes_max
  std::string inference_geo;    // as answered, else the provider's configured region
  bool batch = false;
  std::string contract;         // of the provider, as configured
  BilledUnits units;

  bool operator==(const AttemptLine&) const = default;
  [[nodiscard]] bool estimated() const { return usage.source == UsageSource::estimated; }
};

struct Settlement {
  AttemptLine attempt;  // the attempt that served the request, or the last one that cost something
  bool operator==(const Settlement&) const = default;
};

struct VoidReservation {
  RequestId request_id;
  std::string reason;  // "no deployment answered", "refused by the provider", …
  bool operator==(const VoidReservation&) const = default;
};

using MeteringOperation =
    std::variant<Reservation, AttemptLine, Settlement, VoidReservation, ReservationExtension>;

}  // namespace outlast
