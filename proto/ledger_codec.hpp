// Ledger entries between structs and their stored form, a flat Cap'n Proto frame (ledger.capnp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/cluster_member.hpp"
#include "core/metering.hpp"
#include "core/result.hpp"
#include "core/spend_breaker.hpp"
#include "core/virtual_key.hpp"

namespace outlast::proto {

// Append-only.
enum class LedgerCodecError : std::uint16_t {
  malformed = 1,     // not a frame of this schema
  unknown_kind = 2,  // written by a later version
  too_large = 3,
};

inline constexpr std::size_t ledger_frame_bytes_max = 2U << 20;

struct EntryHeader {
  std::uint64_t epoch = 1;
  std::uint64_t index = 0;
  std::int64_t time_ms = 0;
  bool operator==(const EntryHeader&) const = default;
};

struct IncarnationStarted {
  Incarnation incarnation;
  std::string software;  // the program's version
  bool operator==(const IncarnationStarted&) const = default;
};
struct Settled {
  Settlement settlement;
  PicoUsd overrun;  // what all attempts cost beyond the reserved amount
  bool operator==(const Settled&) const = default;
};
struct Voided {
  VoidReservation reservation;
  PicoUsd overrun;
  bool operator==(const Voided&) const = default;
};
struct KeyCreated {
  VirtualKey key;  // without revoked_ms
  bool operator==(const KeyCreated&) const = default;
};
struct KeyRevoked {
  std::string key_id;
  bool operator==(const KeyRevoked&) const = default;
};
struct PricesRecorded {
  std::string version;
  std::string toml;
  bool operator==(const PricesRecorded&) const = default;
};

// A new budget, or a change of one. `by` says who did it, here and below.
struct BudgetSet {
  Budget budget;
  std::string by;
  std::int64_t period_start_ms = 0;  // the period that the entry's time lies in, so that a replay
  std::int64_t period_end_ms = 0;    // needs no calendar; the end is exclusive, 0 for never
  bool away = false;  // another ledger is its home, and allots what may be spent here
  bool operator==(const BudgetSet&) const = default;
};
struct BudgetRemoved {
  std::string id;
  std::string by;
  bool operator==(const BudgetRemoved&) const = default;
};
// A new period began.
struct BudgetRolled {
  std::string id;
  std::int64_t period_start_ms = 0;
  std::int64_t period_end_ms = 0;
  bool operator==(const BudgetRolled&) const = default;
};
// Money of a budget, to the slice of a holder: an incarnation, in a cluster; nil: the process that
// wrote the entry.
struct SliceGranted {
  std::string budget;
  PicoUsd amount;
  Incarnation holder{};
  bool operator==(const SliceGranted&) const = default;
};
// And back.
struct SliceReturned {
  std::string budget;
  PicoUsd amount;
  Incarnation holder{};
  bool operator==(const SliceReturned&) const = default;
};
struct CommitmentAdded {
  Commitment commitment;
  std::string by;
  bool away = false;  // as of a budget
  bool operator==(const CommitmentAdded&) const = default;
};
struct CommitmentEnded {
  std::string id;
  std::string by;
  bool operator==(const CommitmentEnded&) const = default;
};

// In a cluster: another process owns the shard from here on. Slices and open reservations stay with
// their holders.
struct OwnerStarted {
  Incarnation incarnation;
  std::string node;
  std::string software;
  bool operator==(const OwnerStarted&) const = default;
};
// A holder will ask for nothing more. What its slices held returns to the budgets or, where nobody
// knows what became of it, counts as spent. Its open reservations were settled before.
struct HolderEnded {
  Incarnation holder;
  bool spent = false;
  std::string why;
  bool operator==(const HolderEnded&) const = default;
};

// Part of a budget or a commitment, from its home's ledger to that of another shard; each of the two has
// such an entry.
struct AllotmentGranted {
  std::string subject;  // the budget's id, or the commitment's
  bool commitment = false;
  std::uint16_t shard = 0;   // the other one: at home the one that it is given to, there the home
  __int128 amount = 0;       // pico-USD of a budget, units of a commitment
  std::uint64_t opened = 0;  // the index of the home's entry that opened the allotment; 0 in that one
  bool operator==(const AllotmentGranted&) const = default;
};
// And back.
struct AllotmentReturned {
  std::string subject;
  bool commitment = false;
  std::uint16_t shard = 0;
  __int128 amount = 0;
  std::uint64_t opened = 0;
  bool operator==(const AllotmentReturned&) const = default;
};

// In the order of storage::EntryKind.
using EntryBody =
    std::variant<IncarnationStarted, Reservation, AttemptLine, Settled, Voided, KeyCreated,
                 KeyRevoked, PricesRecorded, BudgetSet, BudgetRemoved, BudgetRolled, SliceGranted,
                 SliceReturned, CommitmentAdded, CommitmentEnded, ReservationExtension,
                 BreakerTripped, BreakerReset, BreakerRuleChange, OwnerStarted, HolderEnded, NodeEnrolled,
                 NodeChanged, JoinTokenMade, SettingSet, AllotmentGranted, AllotmentReturned>;

struct LedgerEntry {
  EntryHeader header;
  EntryBody body;
  bool operator==(const LedgerEntry&) const = default;
};

// Writes frames one after another, with one scratch buffer. One owner.
class LedgerEncoder {
 public:
  LedgerEncoder();
  ~LedgerEncoder();
  LedgerEncoder(const LedgerEncoder&) = delete;
  LedgerEncoder& operator=(const LedgerEncoder&) = delete;

  // Each appends one frame to `out` and returns its size in bytes, a multiple of 8.
  std::size_t append(std::string& out, const EntryHeader& header, const IncarnationStarted& body);
  std::size_t append(std::string& out, const EntryHeader& header, const Reservation& body);
  std::size_t append(std::string& out, const EntryHeader& header, const AttemptLine& body);
  std::size_t append(std::string& out, const EntryHeader& header, const Settlement& body,
                     PicoUsd overrun);
  std::size_t append(std::string& out, const EntryHeader& header, const VoidReservation& body,
                     PicoUsd overrun);
  std::size_t append(std::string& out, const EntryHeader& header, const VirtualKey& created);
  std::size_t append(std::string& out, const EntryHeader& header, const KeyRevoked& body);
  std::size_t append(std::string& out, const EntryHeader& header, const PricesRecorded& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BudgetSet& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BudgetRemoved& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BudgetRolled& body);
  std::size_t append(std::string& out, const EntryHeader& header, const SliceGranted& body);
  std::size_t append(std::string& out, const EntryHeader& header, const SliceReturned& body);
  std::size_t append(std::string& out, const EntryHeader& header, const CommitmentAdded& body);
  std::size_t append(std::string& out, const EntryHeader& header, const CommitmentEnded& body);
  std::size_t append(std::string& out, const EntryHeader& header, const ReservationExtension& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BreakerTripped& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BreakerReset& body);
  std::size_t append(std::string& out, const EntryHeader& header, const BreakerRuleChange& body);
  std::size_t append(std::string& out, const EntryHeader& header, const OwnerStarted& body);
  std::size_t append(std::string& out, const EntryHeader& header, const HolderEnded& body);
  std::size_t append(std::string& out, const EntryHeader& header, const NodeEnrolled& body);
  std::size_t append(std::string& out, const EntryHeader& header, const NodeChanged& body);
  std::size_t append(std::string& out, const EntryHeader& header, const JoinTokenMade& body);
  std::size_t append(std::string& out, const EntryHeader& header, const SettingSet& body);
  std::size_t append(std::string& out, const EntryHeader& header, const AllotmentGranted& body);
  std::size_t append(std::string& out, const EntryHeader& header, const AllotmentReturned& body);
  std::size_t append(std::string& out, const LedgerEntry& entry);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Never trusts `frame`: any bytes give an entry or an error. Alignment does not matter.
Result<LedgerEntry> decode_ledger_entry(std::string_view frame);

}  // namespace outlast::proto

namespace outlast {
template <>
inline constexpr std::string_view error_module<proto::LedgerCodecError> = "ledger_codec";
}  // namespace outlast
