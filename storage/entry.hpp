// StoredEntry: one entry of the ledger as readers see it: its place, its content, and its link in
// the hash chain.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/crypto.hpp"
#include "proto/ledger_codec.hpp"

namespace outlast::storage {

// Append-only; the order of proto::EntryBody.
enum class EntryKind : std::uint8_t {
  incarnation = 0,  // a process started; what follows is its own
  reserve = 1,
  attempt = 2,
  settle = 3,
  voided = 4,
  key_created = 5,
  key_revoked = 6,
  prices = 7,
  budget_set = 8,
  budget_removed = 9,
  budget_rolled = 10,   // a new period of it began
  slice_granted = 11,   // money of a budget, to this process
  slice_returned = 12,  // and back
  commitment_added = 13,
  commitment_ended = 14,
  extend = 15,  // more for an open reservation
  breaker_tripped = 16,
  breaker_reset = 17,
  breaker_rule = 18,
  owner_started = 19,  // in a cluster: another process owns the shard from here on
  holder_ended = 20,   // a holder of slices asks for nothing more
  node_enrolled = 21,
  node_changed = 22,
  join_token_made = 23,
  setting_set = 24,
  allotment_granted = 25,   // part of a budget or commitment, to another shard's ledger
  allotment_returned = 26,  // and back
};
inline constexpr std::string_view entry_kind_names[] = {
    "incarnation", "reserve",          "attempt",          "settle",
    "void",        "key_created",      "key_revoked",      "prices",
    "budget_set",  "budget_removed",   "budget_rolled",    "slice_granted",
    "slice_returned", "commitment_added", "commitment_ended", "extend",
    "breaker_tripped", "breaker_reset", "breaker_rule",    "owner_started",
    "holder_ended",    "node_enrolled", "node_changed",    "join_token_made", "setting_set",
    "allotment_granted", "allotment_returned"};
inline std::string_view name_of(EntryKind kind) {
  return entry_kind_names[static_cast<std::size_t>(kind)];
}

struct StoredEntry {
  proto::EntryHeader header;
  proto::EntryBody body;
  Digest prev_hash{};  // of the entry before; zeros for index 0
  Digest hash{};       // SHA-256(prev_hash || frame)

  [[nodiscard]] EntryKind kind() const { return static_cast<EntryKind>(body.index()); }
};

// The request that the entry is about; nil for kinds that are about none.
RequestId request_id_of(const proto::EntryBody& body);

}  // namespace outlast::storage
