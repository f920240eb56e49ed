// What the codecs of ledger entries share: values between structs and the schema's words. For
// proto/*.cpp only, since it shows Cap'n Proto.
#pragma once

#include <capnp/message.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "proto/ledger.capnp.h"
#include "proto/ledger_codec.hpp"

namespace outlast::proto {

inline kj::StringPtr text_of(const std::string& text) { return kj::StringPtr(text.c_str(), text.size()); }
inline std::string string_of(capnp::Text::Reader text) { return std::string(text.begin(), text.size()); }

struct Words {
  std::uint64_t high;
  std::uint64_t low;
};

inline std::uint64_t big_endian(const std::uint8_t* bytes) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof(value));
  return __builtin_bswap64(value);
}

inline Words words_of(const Uuid& id) {
  return {big_endian(id.bytes.data()), big_endian(id.bytes.data() + 8)};
}

inline Uuid uuid_of(std::uint64_t high, std::uint64_t low) {
  Uuid id;
  high = __builtin_bswap64(high);
  low = __builtin_bswap64(low);
  std::memcpy(id.bytes.data(), &high, sizeof(high));
  std::memcpy(id.bytes.data() + 8, &low, sizeof(low));
  return id;
}

inline std::int64_t high_of(PicoUsd amount) { return static_cast<std::int64_t>(amount.value >> 64); }
inline std::uint64_t low_of(PicoUsd amount) { return static_cast<std::uint64_t>(amount.value); }
inline PicoUsd amount_of(std::int64_t high, std::uint64_t low) {
  return {static_cast<__int128>(static_cast<unsigned __int128>(static_cast<__int128>(high)) << 64 |
                                low)};
}

template <class Builder>
void put_id(Builder builder, const Uuid& id) {
  const Words words = words_of(id);
  builder.setIdHigh(words.high);
  builder.setIdLow(words.low);
}

// What a decoder finds wrong, carried out of the readers.
struct Malformed {
  const char* what;
};

// Reservations, budgets and commitments (money_codec.cpp). Each read() throws Malformed.
void fill(wire::Reservation::Builder to, const Reservation& from);
void fill(wire::Extension::Builder to, const ReservationExtension& from);
void fill(wire::BudgetSet::Builder to, const BudgetSet& from);
void fill(wire::BudgetRemoved::Builder to, const BudgetRemoved& from);
void fill(wire::BudgetRolled::Builder to, const BudgetRolled& from);
void fill(wire::SliceMoved::Builder to, const SliceGranted& from);
void fill(wire::SliceMoved::Builder to, const SliceReturned& from);
void fill(wire::CommitmentAdded::Builder to, const CommitmentAdded& from);
void fill(wire::CommitmentEnded::Builder to, const CommitmentEnded& from);
void fill(wire::AllotmentMoved::Builder to, const AllotmentGranted& from);
void fill(wire::AllotmentMoved::Builder to, const AllotmentReturned& from);
Reservation read(wire::Reservation::Reader from);
ReservationExtension read(wire::Extension::Reader from);
BudgetSet read(wire::BudgetSet::Reader from);
BudgetRemoved read(wire::BudgetRemoved::Reader from);
BudgetRolled read(wire::BudgetRolled::Reader from);
CommitmentAdded read(wire::CommitmentAdded::Reader from);
CommitmentEnded read(wire::CommitmentEnded::Reader from);
template <class Moved>
Moved read_allotment(wire::AllotmentMoved::Reader from) {
  return {string_of(from.getSubject()), from.getCommitment(), from.getShard(),
          amount_of(from.getAmountHigh(), from.getAmountLow()).value, from.getOpened()};
}

// Spend breakers (breaker_codec.cpp).
void fill(wire::BreakerTripped::Builder to, const BreakerTripped& from);
void fill(wire::BreakerReset::Builder to, const BreakerReset& from);
void fill(wire::BreakerRule::Builder to, const BreakerRuleChange& from);
BreakerTripped read(wire::BreakerTripped::Reader from);
BreakerReset read(wire::BreakerReset::Reader from);
BreakerRuleChange read(wire::BreakerRule::Reader from);

// Clusters (member_codec.cpp).
void fill(wire::OwnerStarted::Builder to, const OwnerStarted& from);
void fill(wire::HolderEnded::Builder to, const HolderEnded& from);
void fill(wire::NodeEnrolled::Builder to, const NodeEnrolled& from);
void fill(wire::NodeChanged::Builder to, const NodeChanged& from);
void fill(wire::JoinTokenMade::Builder to, const JoinTokenMade& from);
void fill(wire::SettingSet::Builder to, const SettingSet& from);
OwnerStarted read(wire::OwnerStarted::Reader from);
HolderEnded read(wire::HolderEnded::Reader from);
NodeEnrolled read(wire::NodeEnrolled::Reader from);
NodeChanged read(wire::NodeChanged::Reader from);
JoinTokenMade read(wire::JoinTokenMade::Reader from);
SettingSet read(wire::SettingSet::Reader from);

}  // namespace outlast::proto
