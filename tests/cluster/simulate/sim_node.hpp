// SimNode: a node of the simulated cluster: what Coordinator, ClusterNode and Holder do with their threads, step by step.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/election.hpp"
#include "cluster/memory_agreement.hpp"
#include "tests/cluster/shard_holder.hpp"
#include "tests/cluster/simulate/node_clock.hpp"
#include "tests/cluster/simulate/sim_host.hpp"
#include "tests/cluster/simulate/trace.hpp"

namespace outlast::cluster::simulation {

// What all nodes of a cluster have in common.
struct SimCluster {
  ManualClock& clock;
  Random& random;
  UuidGenerator& requests;
  Network& network;
  MemoryAgreement& agreement;
  Trace& trace;
  ElectionOptions election;
  std::vector<Member> members;
  std::vector<ShardMoney> money;  // by shard
  std::map<ShardId, HolderSetup> lanes;
  bool slow_calls = false;  // now and then a call to the agreement takes long
};

class SimNode {
 public:
  SimNode(std::string node, SimCluster& cluster, std::int64_t clock_origin_ns);

  void start();
  // The disk loses what was not synced; `wipe`: all of it.
  void crash(bool wipe);
  void pause(bool paused);
  // Drains, stops in order, is away for a moment, and comes back.
  void restart_in_order();
  void hang(ShardId shard, bool hangs);
  void shift_wall_ms(std::int64_t ms) { clock_.shift_wall_ms(ms); }

  [[nodiscard]] bool is_up() const { return election_ != nullptr; }
  [[nodiscard]] bool is_paused() const { return paused_; }
  [[nodiscard]] bool is_leaving() const { return leaving_ != Leaving::no; }
  [[nodiscard]] const Incarnation& incarnation() const { return incarnation_; }

  // The agreement's side of calls under way: goes on while the node is paused.
  void serve_calls();
  void receive(const std::string& from, const shard::Message& message);
  void see_peer(const std::string& peer, bool up);
  void step(bool may_begin);

  const std::string name;
  std::string broken;
  [[nodiscard]] std::map<ShardId, std::unique_ptr<SimHost>>& hosts() { return hosts_; }
  [[nodiscard]] HolderNode& gateway(ShardId shard) { return *gateways_.at(shard); }
  [[nodiscard]] const auto& gateways() const { return gateways_; }
  [[nodiscard]] bool is_at_rest() const;
  std::map<std::string, Incarnation> links;  // peers that it is linked to, and which process of theirs

 private:
  enum class Leaving : std::uint8_t { no, draining, stopping, away };
  struct Call {
    std::optional<election::Effect> effect;  // none: the view
    std::int64_t sent_ns = 0;
    std::int64_t at_ms = 0;
    std::int64_t answer_ms = 0;
    bool performed = false;
    std::function<void()> answer;
  };
  struct Lane {
    std::deque<Call> calls;
    bool sent = false;  // the first of them
  };
  struct Owner {
    std::string node;
    std::uint64_t epoch = 0;
  };

  void send(const std::string& to, const shard::Message& message);
  void on_message(const std::string& from, const shard::Message& message);
  void take_answers();
  void begin_calls();
  void perform(Call& call);
  void perform_at_service(Call& call, const election::Effect& effect);
  void run_election();
  void perform(const election::Effect& effect);
  void look_at_view();
  void follow(ShardId shard);
  void gossip();
  void connect(ShardId shard);
  void leave();
  void end_process();
  [[nodiscard]] Presence presence(bool takes_shards) const;

  SimCluster& cluster_;
  NodeClock clock_;
  // The disk.
  std::map<ShardId, LossyLog> disks_;
  std::map<ShardId, std::unique_ptr<HolderNode>> gateways_;

  // The process.
  Incarnation incarnation_;
  std::unique_ptr<Coordination> coordination_;
  std::unique_ptr<Election> election_;
  std::map<ShardId, std::unique_ptr<SimHost>> hosts_;
  std::int64_t deadline_ns_ = 0;
  Lane lanes_[2];
  std::map<ShardId, Owner> owners_;
  std::vector<std::pair<std::string, shard::Message>> inbox_;
  bool paused_ = false;
  bool view_wanted_ = false;
  std::int64_t view_due_ns_ = 0;
  std::int64_t gossip_due_ns_ = 0;
  Leaving leaving_ = Leaving::no;
  std::int64_t leaving_until_ms_ = 0;
  bool drained_ = false;
  bool stopped_ = false;
};

}  // namespace outlast::cluster::simulation
