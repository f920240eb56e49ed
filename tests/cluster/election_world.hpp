// A world for elections: a coordination service, nodes with clocks of their own and a network, all under virtual time
// and from one seed. After every event it checks that whoever believes to lead a shard owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/election.hpp"
#include "core/random.hpp"

namespace outlast::cluster::testing {

struct WorldOptions {
  std::uint64_t seed = 1;
  ElectionOptions election;           // node and incarnation are filled in
  std::int64_t delay_us_max = 3'000;  // of a message or half a call
  double late_share = 0;              // calls that time out and happen long after
  double hint_loss = 0.1;
  double drift_max = 0.02;            // of clocks
};

// Runs at its own rate from its own start.
class DriftingClock final : public Clock {
 public:
  DriftingClock(const std::int64_t& world_ns, std::int64_t offset_ns, double rate)
      : world_ns_(world_ns), offset_ns_(offset_ns), rate_(rate) {}
  [[nodiscard]] std::int64_t monotonic_ns() const override {
    return offset_ns_ + static_cast<std::int64_t>(static_cast<double>(world_ns_) * rate_);
  }
  [[nodiscard]] std::int64_t wall_ms() const override { return 0; }
  [[nodiscard]] std::int64_t world_ns_of(std::int64_t local_ns) const {
    return static_cast<std::int64_t>(static_cast<double>(local_ns - offset_ns_) / rate_) + 1'000;
  }

 private:
  const std::int64_t& world_ns_;
  const std::int64_t offset_ns_;
  const double rate_;
};

class World {
 public:
  explicit World(WorldOptions options);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A node that is enrolled; it starts with an empty disk.
  void add(const std::string& node, std::vector<std::string> roles = {"ledger"});
  void run_ms(std::int64_t ms);
  // Until `done`, looked at every 10 ms; false: not within `ms`.
  bool run_until(std::int64_t ms, const std::function<bool()>& done);

  void crash(const std::string& node);
  void start(const std::string& node);  // as another incarnation, with the disk it had
  void pause(const std::string& node, bool paused);
  void cut(const std::string& node, bool cut);                           // from the coordination
  void part(const std::string& a, const std::string& b, bool parted);    // from each other
  void hang(const std::string& node, ShardId shard, bool hangs);         // one shard's thread
  void fail_shard(const std::string& node, ShardId shard);
  void drain(const std::string& node);
  void stop(const std::string& node);
  void set_state(const std::string& node, NodeState state);
  void change_coordination_leader();  // every lease begins anew
  void heal();                        // all of the above but states; calls are not late any more

  [[nodiscard]] std::int64_t now_ms() const { return now_ns_ / 1'000'000; }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] bool up(const std::string& node) const { return nodes_.at(node).election != nullptr; }
  [[nodiscard]] bool drained(const std::string& node) const { return nodes_.at(node).drained; }
  [[nodiscard]] bool stopped(const std::string& node) const { return nodes_.at(node).stopped; }
  [[nodiscard]] Election& election(const std::string& node) { return *nodes_.at(node).election; }
  void pump(const std::string& node);
  [[nodiscard]] std::optional<Ownership> owner(ShardId shard) const;
  // The node that owns it and leads; empty: none.
  [[nodiscard]] std::string leader(ShardId shard) const;
  [[nodiscard]] std::vector<ShardId> shards() const;
  // Why not every shard is led by the best of the active nodes, and replicated where it should be; empty: it is.
  [[nodiscard]] std::string unsettled() const;

  // Since the last call.
  struct Counts {
    std::uint64_t claims = 0;       // that won
    std::uint64_t events = 0;
    std::int64_t ownerless_ms_max = 0;  // the longest that a shard that once had an owner was without
  };
  Counts take_counts();

 private:
  struct Replica {
    bool following = false;
    bool read = false;
    std::uint64_t applied = 0;
    bool hangs = false;
  };
  struct Call {
    std::function<std::function<void(Election&)>()> perform;   // at the service; returns what the answer does
    std::function<void(Election&, AgreementError)> give_up;    // how it fails
    std::function<void()> begin = {};                          // when it is sent
  };
  struct SimNode {
    std::string name;
    std::vector<std::string> roles;
    NodeState state = NodeState::active;
    std::unique_ptr<DriftingClock> clock;
    std::unique_ptr<Election> election;
    Incarnation incarnation;
    std::uint64_t run = 0;  // events of earlier runs do nothing
    std::uint64_t wake = 0;
    bool paused = false;
    bool cut = false;
    bool leaves = false;  // was told to drain or stop
    bool drained = false;
    bool stopped = false;
    bool view_queued = false;  // and not sent
    std::deque<Call> lanes[2];  // calls wait behind one another: those of the lease, and the others
    bool busy[2] = {false, false};
    std::vector<std::function<void(Election&)>> inbox;  // while it is paused
    std::map<ShardId, Replica> replicas;
    std::map<ShardId, std::uint64_t> led;
  };
  struct Lease {
    std::string node;
    std::int64_t expires_ns = 0;
  };

  void at(std::int64_t time_ns, std::function<void()> event);
  void to_node(const std::string& node, std::int64_t delay_ns, std::function<void(Election&)> input);
  [[nodiscard]] std::int64_t delay_ns();
  void call(SimNode& node, int lane, Call call);
  void next_call(SimNode& node, int lane);
  void perform(SimNode& node, const election::Effect& effect);
  void perform(SimNode& node, const election::StartLease& effect);
  void perform(SimNode& node, const election::KeepAlive& effect);
  void perform(SimNode& node, const election::EndLease& effect);
  void perform(SimNode& node, const election::Announce& effect);
  void perform(SimNode& node, const election::LookAtView& effect);
  void perform(SimNode& node, const election::Claim& effect);
  void perform(SimNode& node, const election::CatchUp& effect);
  void perform(SimNode& node, const election::Lead& effect);
  void perform(SimNode& node, const election::StepDown& effect);
  void perform(SimNode& node, const election::Release& effect);
  void perform(SimNode& node, const election::Tell& effect);
  void perform(SimNode& node, const election::Follow& effect);
  void perform(SimNode& node, const election::Drop& effect);
  void perform(SimNode& node, const election::Drained& effect);
  void perform(SimNode& node, const election::Stopped& effect);
  void pump(SimNode& node);
  void every_second(const std::string& name, std::uint64_t run);
  void gossip(SimNode& node);
  [[nodiscard]] Presence presence_of(const SimNode& node, bool takes_shards) const;
  [[nodiscard]] std::vector<Member> members() const;
  void tell_members();

  void end_lease(LeaseId lease);
  void expire(LeaseId lease);
  void own(ShardId shard, std::optional<std::pair<Ownership, LeaseId>> owner);
  void changed();
  void check_beliefs(const SimNode& node, ShardId shard) const;

  WorldOptions options_;
  Random random_;
  std::int64_t now_ns_ = 1'000'000'000;
  std::multimap<std::int64_t, std::function<void()>> events_;
  std::map<std::string, SimNode> nodes_;
  std::set<std::pair<std::string, std::string>> parted_;
  Counts counts_;
  std::uint32_t last_incarnation_ = 0;

  // The coordination.
  std::uint64_t revision_ = 1;
  LeaseId last_lease_ = 0;
  std::map<LeaseId, Lease> leases_;
  std::map<std::string, std::pair<Presence, LeaseId>> presences_;
  std::map<ShardId, std::pair<Ownership, LeaseId>> owners_;
  std::map<ShardId, std::int64_t> vacant_since_ns_;
  std::shared_ptr<const CoordinationView> view_;
  std::map<ShardId, std::uint64_t> tails_;
};

}  // namespace outlast::cluster::testing
