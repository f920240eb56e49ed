// Allotments: what the home of a budget or a commitment gave to the ledgers of other shards, and what came back. The rules
// that budgets and commitments share; each shard spends within its part (BudgetStatus::part()).
//
// Both sides count totals, by an entry each, so that what they tell each other may be lost, repeated or late. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "core/money.hpp"
#include "proto/ledger_codec.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

// The largest amount of one entry, as of budgets and commitments.
inline constexpr __int128 allotment_amount_max = static_cast<__int128>(1'000'000'000'000'000'000) *
                                                 1'000'000'000'000;

// Pico-USD of a budget, units of a commitment.
struct Allotment {
  __int128 granted = 0;   // all that was ever granted, and returned, since it was opened
  __int128 returned = 0;
  // The index of the home's entry that opened it: tells it from one of an earlier budget of the same id.
  std::uint64_t opened = 0;
  [[nodiscard]] __int128 out() const { return granted - returned; }
  bool operator==(const Allotment&) const = default;
};

// At home by the shard that each is given to; away at most one, by the home's number.
using Allotments = std::map<std::uint16_t, Allotment>;

// Which side this is, and what of it is free for anybody.
struct AllotmentSide {
  bool away = false;
  bool soft = false;      // a budget that refuses nothing needs no allotments
  bool reopened = false;  // whether a later allotment may follow this one; a commitment is never made anew
  __int128 free = 0;
};

// Each applies an entry's body: no value, or why it may not stand. `index`: of the entry.
std::optional<LedgerError> take_grant(Allotments& allotments, const AllotmentSide& side,
                                      const proto::AllotmentGranted& body, std::uint64_t index);
std::optional<LedgerError> take_return(Allotments& allotments, const AllotmentSide& side,
                                       const proto::AllotmentReturned& body);
// BudgetStatus::allotted, CommitmentStatus::allotted.
__int128 allotted_of(const Allotments& allotments, bool away);
// Recovery; false for what no entries lead to.
bool restore_allotment(Allotments& allotments, bool away, std::uint16_t shard,
                       const Allotment& allotment);

}  // namespace outlast::storage
