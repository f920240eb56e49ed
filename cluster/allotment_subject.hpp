// What the two sides of an allotment share: which budget or commitment it is of, and what of it is free in a shard's state.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "cluster/shard_id.hpp"
#include "proto/shard_codec.hpp"
#include "storage/ledger_writer.hpp"

namespace outlast::cluster {

struct AllotmentSubject {
  std::string id;
  bool commitment = false;
  auto operator<=>(const AllotmentSubject&) const = default;
};

// A message for whoever owns that shard now.
struct SendToShard {
  ShardId shard = 0;
  shard::Message message;
};

// A budget or a commitment in a shard's state. Valid until the state changes.
struct AllotmentAccount {
  const storage::Allotments* allotments = nullptr;
  bool away = false;
  bool gives = false;      // a soft budget or an ended commitment neither needs nor gives anything
  __int128 free = 0;       // for anybody
  __int128 whole = 0;      // of all shards
  std::int64_t period_start_ms = 0;
};
// No value where there is none.
std::optional<AllotmentAccount> find_account(const storage::LedgerState& state, const AllotmentSubject& subject);

// Of a commitment, for each shard at once; half of the whole stays at home.
inline __int128 first_share_of(__int128 whole, ShardId shards) { return whole / (2 * static_cast<__int128>(shards)); }

inline constexpr std::int64_t allotment_round_ns = 350'000'000;  // a home's recall of other shards' parts
inline constexpr std::int64_t allotment_wait_ns = 600'000'000;   // of who is short, for the home's answer
inline constexpr std::int64_t allotment_again_ns = 100'000'000;  // until what nobody answered is said again
// For so long a shard that found too little does not look again for as much or more.
inline constexpr std::int64_t allotment_fruitless_ns = 500'000'000;

}  // namespace outlast::cluster
