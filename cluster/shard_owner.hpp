// ShardOwner: the owner's end of a shard: takes in what holders say, in order and once each, turns it into entries by a
// storage::LedgerWriter, deals out slices of budgets, and says nothing before what it promises is durable. Pure: no
// threads, sockets or clock of its own.
//
// - It hears messages of its own epoch only, and of each holder only the newest stream: whatever is late from an earlier
//   stream or owner was sent again in the newest one, or its outcome was told, and must not be applied again.
// - It hears a holder's words only from the node that the holder belongs to: the one that it is on record for; else the one
//   that spoke for it first in this epoch.
// - commit() makes the batch durable; only then do acknowledgements, grants, recalls and the answers to EndHolder leave.
// - Slices. What a holder was granted and has returned are totals in the ledger's state, so a new owner goes on where the
//   old one stopped. A grant is told again whenever a holder's demand shows that it has not heard of it.
// - Short reservations. Where a budget has no room for a reservation (or extension) while other holders have slices of it,
//   these are recalled, and the reservation waits for at most recall_ms; nothing else of its stream waits for it. It is
//   decided as soon as there is room, or nobody is left to answer; then it is acknowledged by itself. When something
//   arrives for a request that waits, the waiting ends at once, so that a reservation is never decided after its end.
//   A holder that lets a recall pass is not waited for again until something is heard from it.
// - Budgets and commitments that concern all shards have a part here, and the others elsewhere: cluster/allotment_desk.hpp and
//   allotment_keeper.hpp. Where one has no room for a reservation, other shards are asked as well, for up to 600 ms.
// - To hand the shard over: commit(), send what it says, and throw this away (LedgerWriter::resign()). Holders say again
//   what was not acknowledged, the reservations that waited among it.
// - Budgets are defined in the control log; set_money() mirrors what concerns this shard into its own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#include "cluster/holder_handover.hpp"
#include "cluster/holder_session.hpp"
#include "cluster/shard_id.hpp"
#include "cluster/allotment_desk.hpp"
#include "cluster/allotment_keeper.hpp"
#include "cluster/shard_money.hpp"
#include "cluster/slice_desk.hpp"
#include "core/clock.hpp"
#include "core/virtual_key.hpp"
#include "proto/shard_codec.hpp"
#include "storage/ledger_writer.hpp"

namespace outlast::cluster {

struct OwnerOptions {
  ShardId shard = 0;
  ShardId shards = 1;  // of the cluster
  std::string node;  // this one
  // The node that a holder is on record for; empty: for none. Null: none is for any.
  std::function<std::string(const Incarnation&)> node_of;
  std::uint32_t recall_ms = 150;
  std::size_t waiting_max = 1'024;   // reservations that wait, of all holders; beyond that they are refused at once
  std::size_t holders_max = 4'096;   // beyond that new ones are not heard
  std::size_t commit_bytes_max = 512U << 10;  // it commits by itself when a batch has so much
};

using OwnerEffect = std::variant<SendToNode, SendToShard>;

class ShardOwner {
 public:
  // `writer` leads; the owner's epoch is its. Both outlive this.
  ShardOwner(OwnerOptions options, storage::LedgerWriter& writer, const Clock& clock);
  ShardOwner(const ShardOwner&) = delete;
  ShardOwner& operator=(const ShardOwner&) = delete;

  // An error of any of these is a fault of the log (or `fenced`): nothing that was not told yet may be told, and this and
  // the writer are thrown away.

  // A message from a node of the cluster. Takes Operations, Demand, EndHolder and ReplicaProgress; others are not for it.
  // May commit.
  Result<void> receive(const std::string& node, const shard::Message& message);
  // What the control log says of this shard's budgets and commitments (money_of_shards()). Adds entries where the shard's own
  // differ. Commitments are never removed: an old cluster of one shard has some that the control log does not know.
  Result<void> set_money(const ShardMoney& money);
  // Whoever knows that a holder is gone says so. May commit.
  Result<void> end_holder(const Incarnation& holder, bool spent, const std::string& why);
  // An entry of this node's own, outside of any stream; for the control shard.
  Result<storage::Applied> add(const proto::EntryBody& body);
  // Decides waiting reservations whose time has come, deals out slices, and makes everything durable.
  Result<void> commit();

  // Whether commit() has anything to do; and whether somebody waits for it.
  [[nodiscard]] bool is_dirty() const;
  [[nodiscard]] bool is_urgent() const { return urgent_; }
  // When a waiting reservation's time comes: commit() then.
  [[nodiscard]] std::int64_t next_wake_ns() const;
  [[nodiscard]] std::vector<OwnerEffect> take_effects();

  // How far replicas say that they have come, by node.
  [[nodiscard]] const std::map<std::string, std::uint64_t>& replica_progress() const { return progress_; }
  [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
  struct Counters {
    std::uint64_t operations = 0;
    std::uint64_t refused = 0;
    std::uint64_t waited = 0;   // reservations that waited for a recall
    std::uint64_t recalls = 0;  // of one holder's slice of one budget
    std::uint64_t grants = 0;
    std::uint64_t stale = 0;    // messages of another epoch or an older stream
    std::uint64_t foreign = 0;  // messages of a node about another node's holder
  };
  [[nodiscard]] const Counters& counters() const { return counters_; }

 private:
  struct Waiting {
    Incarnation holder;
    std::uint64_t sequence = 0;
    RequestId request;
    proto::EntryBody body;
    BudgetShortfall shortfall;
    std::int64_t since_ns = 0;
    std::int64_t deadline_ns = 0;
  };
  struct Round {  // a recall of one budget
    std::uint64_t number = 0;
    std::int64_t deadline_ns = 0;
    std::set<Incarnation> unanswered;
    std::set<Incarnation> to_ask;  // at the next commit
  };
  using WaitingMap = std::map<std::uint64_t, Waiting>;

  Result<void> on(const std::string& node, const shard::Operations& message);
  void on(const std::string& node, const shard::Demand& demand);
  bool is_of(const Incarnation& holder, const std::string& node);
  Result<void> take(const Incarnation& holder, HolderSession& session, const shard::Operation& operation);
  Result<void> take(const Incarnation& holder, HolderSession& session, const proto::EntryBody& body);
  Result<void> take(const Incarnation& holder, const shard::SliceReturn& back);
  Result<void> decide(std::uint64_t id, bool last_try);
  Result<void> decide_waiting_of(const RequestId& request);
  Result<void> decide_waiting();
  void drop_waiting(const Incarnation& holder);
  void forget_waiting(WaitingMap::iterator at);
  Result<void> set_budgets(std::span<const ShardBudget> budgets);
  Result<void> remove_budget(const std::string& id);
  Result<void> set_commitments(std::span<const ShardCommitment> commitments);
  // Whether somebody is being asked, or can be, for what they have of the budget: holders of its slices, or other shards.
  bool may_get_room(const std::string& budget, PicoUsd short_by);
  bool ask_holders(const std::string& budget);
  [[nodiscard]] bool is_asking(const std::string& budget) const;
  [[nodiscard]] PicoUsd short_by(const BudgetShortfall& shortfall) const;
  [[nodiscard]] std::int64_t wait_ns(const std::string& budget) const;
  bool may_wait(const HolderSession& session, const proto::EntryBody& body, const storage::Applied& applied);
  void end_rounds();
  Result<void> deal();
  Result<void> deal_allotments();
  void tell_allotments();
  void recall_surplus();
  void tell_grants();
  void tell_recalls();
  void tell_acknowledgements();
  void send(const std::string& node, shard::Body body);
  HolderSession* session_of(const Incarnation& holder);
  Result<void> commit_if_large();

  const OwnerOptions options_;
  storage::LedgerWriter& writer_;
  const Clock& clock_;
  const std::uint64_t epoch_;
  std::map<Incarnation, HolderSession> sessions_;
  std::set<Incarnation> silent_;  // let a recall pass, and were not heard since
  std::set<Incarnation> due_;     // sessions with something to acknowledge
  SliceDesk desk_;
  AllotmentDesk allotments_;  // of what is at home here
  AllotmentKeeper parts_;     // of what is not
  std::set<SliceDesk::Key> to_tell_;  // grants
  std::map<SliceDesk::Key, std::int64_t> surplus_asked_ns_;
  std::set<SliceDesk::Key> surplus_;  // to ask for at the next commit
  WaitingMap waiting_;                // in the order of arrival
  std::unordered_map<RequestId, std::uint64_t> waiting_requests_;
  std::map<std::string, Round, std::less<>> rounds_;
  std::uint64_t next_waiting_ = 1;
  std::uint64_t next_recall_ = 1;
  std::vector<SendToNode> ended_;  // answers to EndHolder, to be sent once durable
  std::map<std::string, std::uint64_t> progress_;
  bool urgent_ = false;
  Counters counters_;
  std::vector<OwnerEffect> effects_;
};

// What a node says that got a message of a holder and does not own the shard; no value: nothing is said to such a message.
std::optional<shard::Message> not_owner(const shard::Message& message, std::string owner_node, std::uint64_t owner_epoch);

}  // namespace outlast::cluster
