// Election: which shards this node replicates, owns, gives away and claims. One per node. No thread, no socket: its
// owner tells it what happened, calls tick(), and performs the effects that it asks for.
//
// Two lines of defence keep a shard from having two owners. First, time: what this node owns it owns until the deadline
// of its lease, and a process that was paused sees at its next tick, before anything else, that the deadline has passed.
// Second, epochs: whatever a node believes, etcd refuses each append that does not carry the epoch of the owner key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/coordination.hpp"
#include "cluster/election_effects.hpp"
#include "cluster/lease_keeper.hpp"
#include "cluster/member.hpp"
#include "core/clock.hpp"
#include "core/id.hpp"
#include "core/random.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

struct ElectionOptions {
  std::string node;
  Incarnation incarnation;
  ShardId shards = 16;       // beside the control shard; the same on all nodes, for ever
  std::size_t replicas = 3;  // of each shard; the control shard is on every node
  std::uint32_t ttl_s = 10;

  std::uint32_t claim_stagger_ms = 500;      // for each better placed node; longer than hints take
  std::uint32_t uncaught_claim_ms = 5'000;   // and so long more when it is not close to the log's end
  std::uint64_t handover_lag_max = 4'096;    // entries: closer to the owner than this is close enough to take over
  std::size_t handovers_max = 2;             // that this node gives at a time
  std::uint32_t handover_claim_ms = 1'500;   // a successor that has not claimed by then has failed
  std::uint32_t distrust_ms = 5'000;         // it is not chosen again for so long, then for twice as long, …
  std::uint32_t distrust_ms_max = 600'000;
  std::uint32_t progress_stale_ms = 3'000;   // a peer's report that is older says nothing
  std::uint32_t step_down_ms_max = 5'000;    // a shard that has not stopped by then is released: epochs fence it
  std::uint32_t hang_ms_max = 15'000;        // a shard of ours that reports nothing for so long, and the TTL, hangs
  std::uint32_t catch_up_ms_max = 30'000;    // between a claim and leading; then another node may try
  std::uint32_t failure_ms = 1'000;          // a shard that failed here is not claimed for so long, then twice, …
  std::uint32_t failure_ms_max = 60'000;
  std::uint32_t replace_after_ms = 600'000;  // a node that is away for longer is replaced as a replica
  std::uint32_t abandoned_ms = 20'000;       // all replicas of a shard away for so long: another node reads its log
  std::uint32_t drop_after_ms = 60'000;      // a shard that others hold is followed for so long more
  std::size_t claims_max = 8;                // in flight
};

// What a node tells those with whom it shares a shard, about twice a second.
struct ShardProgress {
  ShardId shard = 0;
  std::uint64_t applied = 0;  // index of the next entry that its replica would apply
  bool takes = false;         // it could own it
  bool operator==(const ShardProgress&) const = default;
};

struct ShardStatus {
  ShardId shard = 0;
  election::Stage stage = election::Stage::idle;
  bool following = false;
  std::uint64_t epoch = 0;                 // ours, while stage is not idle
  std::optional<Ownership> owner;          // as the last view has it
  std::vector<std::string> replicas;       // best placed first
  std::string successor;                   // while it is given away
  std::uint64_t applied = 0;
  std::uint64_t tail = 0;
};

// One owner. Inputs are cheap and only remember; tick() decides.
class Election {
 public:
  // `clock` runs on while the machine sleeps (BootClock).
  Election(ElectionOptions options, const Clock& clock, std::uint64_t seed);

  // ---- answers of the coordination; sent_ns: the clock before the call was made
  void lease_started(std::uint64_t attempt, std::int64_t sent_ns, const Result<LeaseId>& lease);
  void kept_alive(LeaseId lease, std::int64_t sent_ns, const Result<void>& result);
  void announced(bool takes_shards, const Result<void>& result);
  void claimed(ShardId shard, LeaseId lease, const Result<std::uint64_t>& epoch);
  void released(ShardId shard, std::uint64_t epoch, const Result<void>& result);
  // After LookAtView, after a hint, and every now and then. Views may come late or out of order.
  void set_view(std::int64_t sent_ns, const CoordinationView& view);

  // ---- the control shard. Until it is told, nothing is followed but the control shard, and nothing is claimed. Told
  // first when this node's replica of it has read the whole log once; the node that founds a cluster names itself.
  void set_members(const std::vector<Member>& members);

  // ---- shards of this node, by the thread that applies them: when it has read to the log's end once, and from then on
  // at least once a second, also when nothing changes. `tail`: the log's next index when last read.
  void own_progress(ShardId shard, std::uint64_t applied, std::uint64_t tail);
  // Answers CatchUp: the replica has applied all that the log held after the claim.
  void caught_up(ShardId shard, std::uint64_t epoch);
  // Answers StepDown, which also comes for an epoch that was never led.
  void stepped_down(ShardId shard, std::uint64_t epoch);
  // The shard cannot be led here (fenced, corrupt, disk full) and has stopped by itself.
  void failed(ShardId shard, std::uint64_t epoch);

  // ---- other nodes
  void peer_progress(const std::string& node, const Incarnation& incarnation, const ShardProgress& progress);
  void peer_suspected(const std::string& node, bool suspected);  // its links are down, or up again
  void told(ShardId shard);                                      // a Tell of the shard's former owner

  // ---- this node
  // Gives everything away and takes nothing: before a restart. Ends with Drained.
  void drain();
  // Steps down from all, ends the lease, does nothing more. Ends with Stopped.
  void stop();

  void tick();
  [[nodiscard]] std::int64_t next_wake_ns() const;
  // What to do now, in order; empties the list. Asks the clock again: nothing in it relies on a lease that has ended.
  [[nodiscard]] std::vector<election::Effect> take_effects();

  // The epoch, while this node owns the shard and its lease may be believed in.
  [[nodiscard]] std::optional<std::uint64_t> leads(ShardId shard) const;
  // For shard threads: what they lead they lead until then, by the clock. 0: nothing.
  [[nodiscard]] std::int64_t lead_deadline_ns() const;
  [[nodiscard]] std::vector<ShardProgress> progress_report() const;
  // The lowest applied index of the shard's live replicas; none: some have not told. Below it the log may be trimmed; who
  // asks decides how long it waits for a replica that lives and does not move.
  [[nodiscard]] std::optional<std::uint64_t> lowest_applied(ShardId shard) const;
  // To whom the shard's progress goes, and who may give a checkpoint: its owner, and its replicas; of the control shard
  // not all, but the best placed. Without this node.
  [[nodiscard]] std::vector<std::string> peers_of(ShardId shard) const;
  [[nodiscard]] std::vector<ShardStatus> status() const;  // by shard, the control shard last
  [[nodiscard]] bool draining() const { return draining_; }

 private:
  struct Node {
    std::uint64_t hash = 0;
    std::optional<NodeState> state;  // none: not enrolled
    bool ledger = false;             // may hold ledgers, by its enrolment
    bool live = false;
    bool takes = false;              // live, and says that it takes shards
    bool suspected = false;
    Incarnation incarnation;
    std::int64_t away_since_ns = 0;  // since when it does not take
  };
  struct PeerReport {
    Incarnation incarnation;
    std::uint64_t applied = 0;
    std::uint64_t lag = 0;  // behind this node when it came
    bool takes = false;
    std::int64_t at_ns = 0;
  };
  struct Distrust {
    std::int64_t until_ns = 0;
    std::uint32_t failures = 0;
  };
  struct Shard {
    ShardId id = 0;
    election::Stage stage = election::Stage::idle;
    std::int64_t stage_since_ns = 0;
    std::uint64_t epoch = 0;         // while the stage is neither idle nor claiming
    std::int64_t claimed_ns = 0;     // when the claim's answer came
    bool caught_up = false;
    bool release_after = false;      // when it has stepped down
    bool release_in_flight = false;
    std::int64_t next_release_ns = 0;

    bool following = false;
    bool read_once = false;          // own_progress came since it is followed
    std::uint64_t applied = 0;
    std::uint64_t tail = 0;          // the highest index that anyone told
    std::int64_t progress_ns = 0;
    std::int64_t unneeded_since_ns = 0;

    std::optional<Ownership> owner;  // by the last view
    std::int64_t owner_seen_ns = 0;  // sent_ns of that view
    std::int64_t vacant_since_ns = 0;
    std::int64_t invited_until_ns = 0;
    std::int64_t not_before_ns = 0;  // no claim
    std::int64_t failed_until_ns = 0;
    std::uint32_t failures = 0;

    std::string successor;           // while it is given away: one of handovers_max
    std::int64_t released_ns = 0;
    std::vector<std::string> replicas;  // best placed first
    std::vector<std::string> order;     // those of them that may own it now
    std::int64_t abandoned_since_ns = 0;  // 0: there are some
    std::map<std::string, PeerReport> reports;
    std::map<std::string, Distrust> distrust;
  };
  using Candidate = std::pair<const std::string, Node>;

  // election.cpp
  [[nodiscard]] Shard& at(ShardId shard);
  [[nodiscard]] const Shard& at(ShardId shard) const;
  [[nodiscard]] const Node* self() const;
  [[nodiscard]] bool takes_part() const;  // enrolled, and neither removed nor stopped
  [[nodiscard]] bool gives_away() const;  // drains, by itself or by its state
  [[nodiscard]] bool is_mine(const std::optional<Ownership>& owner) const;
  [[nodiscard]] std::int64_t jitter_ns(std::uint32_t ms);
  void wake_at(std::int64_t time_ns);
  void follow_own_state();
  void follow_lease();
  void keep_lease();
  void place();
  void place(Shard& shard, const std::vector<const Candidate*>& present);
  void finish();
  [[nodiscard]] bool all_idle() const;

  // election_inputs.cpp
  void see_nodes(const std::vector<Presence>& presences);
  void see_owners(std::int64_t sent_ns, const std::vector<Ownership>& owners);

  // election_shards.cpp
  void enter(Shard& shard, election::Stage stage);
  void step_down(Shard& shard, election::Why why, bool release_after);
  void step_down_all(election::Why why);
  void after_step_down(Shard& shard);
  void hold_off(Shard& shard);
  void end_handover(Shard& shard, bool failed);
  void distrust(Shard& shard, const std::string& node);
  void evaluate(Shard& shard);
  void follow_or_drop(Shard& shard);
  void on_idle(Shard& shard);
  void on_catching_up(Shard& shard);
  void on_leading(Shard& shard);
  void on_stepping_down(Shard& shard);
  void on_releasing(Shard& shard);
  void consider_claim(Shard& shard);
  void consider_handover(Shard& shard);
  bool stop_if_lost(Shard& shard);
  [[nodiscard]] bool near_tail(const Shard& shard) const;
  [[nodiscard]] bool ready(const Shard& shard, const std::string& node) const;
  [[nodiscard]] std::size_t rank_of_self(const Shard& shard) const;
  [[nodiscard]] std::int64_t claim_due_ns(const Shard& shard) const;

  const ElectionOptions options_;
  const Clock& clock_;
  Random random_;
  LeaseKeeper keeper_;
  std::optional<LeaseId> lease_;  // that stages hang on
  std::map<std::string, Node> nodes_;
  std::vector<Shard> shards_;     // the control shard last
  std::vector<election::Effect> effects_;
  std::int64_t now_ns_ = 0;       // of this tick
  std::int64_t wake_ns_ = 0;
  std::uint64_t view_revision_ = 0;
  std::int64_t placement_due_ns_ = 0;
  std::int64_t announce_due_ns_ = 0;
  std::size_t claims_ = 0;        // in flight
  std::size_t handovers_ = 0;     // shards with a successor
  bool dirty_ = true;
  bool members_known_ = false;
  bool view_known_ = false;
  bool view_wanted_ = false;
  bool announcing_ = false;
  bool started_taking_ = true;     // what the last StartLease said
  std::optional<bool> announced_;  // what presence says, as far as is known
  bool draining_ = false;
  bool drained_ = false;
  bool stopping_ = false;
  bool stopped_ = false;
};

}  // namespace outlast::cluster
