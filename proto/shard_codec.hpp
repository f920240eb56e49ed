// The messages between holders and the owner of a ledger shard, as plain structs, and their frames (proto/shard.capnp).
// Decoding bounds every count and size, tolerates kinds of newer peers, and never throws.
//
// A holder is a gateway process, named by its incarnation. Everything that counts is cumulative or numbered, so that any
// message may be lost, late, repeated or out of order: cluster/shard_stream.hpp and cluster/shard_owner.hpp say how.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/budget.hpp"
#include "core/id.hpp"
#include "core/money.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::shard {

// Over a limit is FrameError::too_large.
inline constexpr std::size_t operations_max = 4'096;  // in one message
inline constexpr std::size_t budgets_max = 1'024;     // in one message
inline constexpr std::size_t refusals_max = 4'096;    // in one message
inline constexpr std::size_t waiting_max = 4'096;     // in one message
inline constexpr std::size_t progress_max = 2'048;    // in one message
inline constexpr std::size_t subjects_max = 1'024;    // in one message
inline constexpr std::size_t subject_bytes_max = 128;  // a budget's id, or a commitment's
inline constexpr std::size_t budget_id_bytes_max = 64;
inline constexpr std::size_t budget_name_bytes_max = 256;
inline constexpr std::size_t node_name_bytes_max = 256;
inline constexpr std::size_t reason_bytes_max = 1'024;  // longer ones are cut, since they are for people
inline constexpr std::size_t batch_bytes_max = (1U << 20) + (16U << 10);  // a shared log's, where nothing could be compressed
inline constexpr std::size_t message_bytes_max = 8U << 20;

// ---- holder to owner

// The holder refused it by itself before the owner had acknowledged it; keeps its place in the sequence.
struct SkippedOperation {
  bool operator==(const SkippedOperation&) const = default;
};
struct EntryOperation {
  std::string frame;  // proto::LedgerEncoder's, with a zero header
  bool operator==(const EntryOperation&) const = default;
};
// Money of a slice that goes back to its budget. After the ends of the reservations whose money is in it, never before.
struct SliceReturn {
  std::string budget;
  std::uint64_t opened = 0;  // which slice: SliceAccount::opened
  PicoUsd total;             // returned of it so far
  std::uint64_t recall = 0;  // the recall that this answers; 0: of the holder's own accord
  bool operator==(const SliceReturn&) const = default;
};
using Operation = std::variant<SkippedOperation, EntryOperation, SliceReturn>;

struct Operations {
  Incarnation holder;
  std::uint64_t stream = 0;  // grows with every connection to an owner; an owner hears only the newest
  std::uint64_t base = 0;    // the stream's first sequence: all before it is settled between holder and ledger
  std::uint64_t first = 0;   // sequence of operations[0]
  std::uint64_t confirmed = 0;  // number of the newest acknowledgement that has come: its refusals need not be repeated
  bool urgent = false;          // somebody waits for one of them
  std::vector<Operation> operations;  // may be empty: only confirms
  bool operator==(const Operations&) const = default;
};

struct BudgetDemand {
  std::string budget;
  std::uint64_t opened = 0;  // of the slice that `seen` is about; 0: none yet
  PicoUsd seen;              // granted so far, as the holder knows
  PicoUsd wanted;            // asked for by lanes since the last demand
  PicoUsd left;              // in the slice now
  bool operator==(const BudgetDemand&) const = default;
};
struct Demand {
  Incarnation holder;
  std::vector<BudgetDemand> budgets;
  bool operator==(const Demand&) const = default;
};

// The holder will say nothing more; asked by its node's next process, or by whoever knows that it is gone.
struct EndHolder {
  Incarnation holder;
  bool spent = false;  // nobody knows what its slices became
  std::string why;
  bool operator==(const EndHolder&) const = default;
};

// ---- owner to holder

struct Refusal {
  std::uint64_t sequence = 0;
  std::uint16_t error = 0;  // storage::LedgerError
  std::string message;
  std::optional<BudgetShortfall> shortfall;  // of budget_exhausted
  bool operator==(const Refusal& other) const;
};

// Every operation of the stream up to `up_to` that is neither in `waiting` nor in `refusals` (of this acknowledgement or
// an earlier one) is durable. That stays true for ever, so the order of acknowledgements does not matter.
struct Acknowledgement {
  Incarnation holder;
  std::uint64_t stream = 0;
  std::uint64_t number = 0;       // from 1, within the stream
  std::uint64_t up_to = 0;
  std::uint64_t resend_from = 0;  // the owner misses this one and drops what follows; 0: nothing is missing
  std::vector<std::uint64_t> waiting;  // undecided: other holders are asked for their slices first
  std::vector<Refusal> refusals;       // all that the holder has not confirmed
  bool operator==(const Acknowledgement&) const = default;
};

// What is granted to the holder so far: it adds the difference to what it has seen.
struct Grant {
  std::string budget;
  std::uint64_t opened = 0;  // which slice
  PicoUsd total;
  bool operator==(const Grant&) const = default;
};
struct Grants {
  Incarnation holder;
  std::vector<Grant> grants;
  bool operator==(const Grants&) const = default;
};

// The holder takes in `grant`, then returns what its slice has beyond `keep`, by a SliceReturn that names the recall; one
// comes also when there is nothing to return.
struct BudgetRecall {
  Grant grant;
  PicoUsd keep;
  bool operator==(const BudgetRecall&) const = default;
};
struct Recall {
  Incarnation holder;
  std::uint64_t number = 0;
  std::vector<BudgetRecall> budgets;
  bool operator==(const Recall&) const = default;
};

// Whoever got the message does not own the shard in that epoch, or has heard a newer stream of the holder.
struct NotOwner {
  Incarnation holder;
  std::uint64_t stream = 0;         // the one that is not heard
  std::uint64_t newest_stream = 0;  // the one that is, where the epoch is right; else 0
  std::string owner_node;           // who owns it instead; empty: unknown
  std::uint64_t owner_epoch = 0;
  bool operator==(const NotOwner&) const = default;
};

struct HolderEnded {
  Incarnation holder;
  bool operator==(const HolderEnded&) const = default;
};

// ---- between owner and replicas; hints, which may be lost

// Said by owners of link version 1 only; later ones send the batch itself.
struct Tail {
  std::uint64_t next_index = 0;
  bool operator==(const Tail&) const = default;
};
// A batch that stands in the shared log, so that replicas need not read it there.
struct AppendedBatch {
  std::string bytes;  // as cluster/batch_codec.hpp
  bool operator==(const AppendedBatch&) const = default;
};
struct ReplicaProgress {
  std::uint64_t applied = 0;  // the index after the last entry
  bool operator==(const ReplicaProgress&) const = default;
};

// How far a node's replicas are, all of them; and the owner of a shard gives it to the receiver. Between nodes, not of
// one epoch.
struct ShardProgress {
  std::uint16_t shard = 0;
  std::uint64_t applied = 0;
  bool takes = false;  // the node could own it
  bool operator==(const ShardProgress&) const = default;
};
struct NodeProgress {
  Incarnation incarnation;
  std::vector<ShardProgress> shards;
  bool operator==(const NodeProgress&) const = default;
};
struct ShardFree {
  bool operator==(const ShardFree&) const = default;
};

// ---- between owners of shards: parts of budgets and commitments that concern all shards (storage/allotment.hpp). Each tells
// the other totals, which are durable where it says them; whoever owns a shard now may say them. What is allotted counts where
// the sender's period of the budget is not later than the receiver's own: else the receiver waits, and it is said again.

// What one shard asks the home for, and says of what it has. Amounts: pico-USD of a budget, units of a commitment.
struct AllotmentAsk {
  std::string subject;
  bool commitment = false;
  std::uint64_t opened = 0;   // which allotment; 0: none yet
  __int128 granted = 0;       // of it, as far as it has heard
  __int128 returned = 0;      // of it so far
  std::int64_t period_start_ms = 0;
  __int128 needed = 0;        // that somebody waits for, beyond what is there; 0: nobody waits
  std::uint64_t ask = 0;      // number of that question, growing; 0: none
  __int128 wanted = 0;        // to have at hand, beyond what is needed
  std::uint64_t recall = 0;   // the home's recall that this answers; 0: none
  bool operator==(const AllotmentAsk&) const = default;
};
struct AllotmentDemand {
  std::uint16_t from = 0;
  std::vector<AllotmentAsk> asks;
  bool operator==(const AllotmentDemand&) const = default;
};
struct AllotmentTerm {
  std::string subject;
  bool commitment = false;
  std::uint64_t opened = 0;
  __int128 granted = 0;
  __int128 returned = 0;       // as far as it has taken it in
  std::int64_t period_start_ms = 0;
  std::uint64_t answered = 0;  // the newest question for which it has done what it can
  std::uint64_t recall = 0;    // the shard returns what nobody holds, and names this number; 0: it keeps all
  bool operator==(const AllotmentTerm&) const = default;
};
struct AllotmentTerms {
  std::uint16_t from = 0;
  std::vector<AllotmentTerm> terms;
  bool operator==(const AllotmentTerms&) const = default;
};

using Body = std::variant<Operations, Demand, Acknowledgement, Grants, Recall, NotOwner, EndHolder, HolderEnded, Tail,
                          ReplicaProgress, NodeProgress, ShardFree, AllotmentDemand, AllotmentTerms, AppendedBatch>;

struct Message {
  std::uint16_t shard = 0;  // cluster::ShardId
  std::uint64_t epoch = 0;  // the owner's; of EndHolder and ReplicaProgress: whom the sender takes for the owner; of allotments: 0
  Body body;
  bool operator==(const Message&) const = default;
};

// A message within the limits above, as whoever makes one sees to; others are a bug, but for texts for people, which are
// cut.
[[nodiscard]] FramePtr encode(const Message& message);

// Any bytes, of any alignment, give a message or an error (FrameError).
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes);

// About how many bytes an operation takes in a frame: senders bound their messages by it.
[[nodiscard]] std::size_t size_of(const Operation& operation);

}  // namespace outlast::shard
