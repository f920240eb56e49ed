// What can go wrong with the ledger.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "core/result.hpp"

namespace outlast::storage {

// Append-only.
enum class LedgerError : std::uint16_t {
  corrupt = 1,  // the message names the file, or the first bad index
  locked = 2,   // another process has the store open
  io = 3,
  disk_full = 4,        // new reservations are refused below the reserve; settlements go on
  overloaded = 5,       // the queue is full
  duplicate = 6,        // the id was used with other parameters
  unknown_request = 7,  // settle, attempt or void without an open reservation
  already_ended = 8,    // the reservation was settled or voided with other parameters
  too_old = 9,          // an id older than the dedup index
  unknown_key = 10,
  stopped = 11,
  invalid = 12,  // an amount or a text outside its limits
  budget_exhausted = 13,    // a hard budget on the path has not enough left
  unknown_budget = 14,
  unknown_commitment = 15,
  overlap = 16,      // two commitments that would be drawn at once: the order would be ambiguous
  in_progress = 17,  // the idempotency key's request, or one of the holder that would end, is still open
  mismatch = 18,     // the idempotency key was used with other parameters
  unknown_breaker = 19,  // no such spend breaker is open, or there is no such rule
  // In a cluster:
  fenced = 20,       // another owner's epoch holds: this process may not write to the shard any more
  unavailable = 21,  // the shard has no owner that can be reached; try again
  unknown_holder = 22,  // it ended already; what it says now comes too late
  unknown_node = 23,
  bad_token = 24,    // unknown, used or expired
  taken = 25,        // the name or the key is another node's
  key_revoked = 26,
  last_node = 27,    // a cluster without any could let none in
  not_enrolled = 28,  // removed or revoked: it has to join again
};

}  // namespace outlast::storage

namespace outlast {
template <>
inline constexpr std::string_view error_module<storage::LedgerError> = "ledger";

namespace storage {
inline Failure invalid(std::string message) { return fail(LedgerError::invalid, std::move(message)); }
}  // namespace storage
}  // namespace outlast
