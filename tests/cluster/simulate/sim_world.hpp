// SimWorld: a whole cluster in one thread, under virtual time and from one seed, with everything that can happen to it;
// after each step of each node it checks what has to hold.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/cluster/simulate/sim_node.hpp"

namespace outlast::cluster::simulation {

struct SimReport {
  std::string broken;  // the rule that was broken; empty: none
  std::uint64_t step = 0;
  std::uint64_t digest = 0;
  std::vector<std::string> last_events;
  std::uint64_t entries = 0;
  std::uint64_t owners = 0;  // that were elected
  std::uint64_t faults = 0;
  HolderCounts counts;
};

class SimWorld {
 public:
  explicit SimWorld(std::uint64_t seed, bool verbose = false);
  SimReport run();
  [[nodiscard]] const Trace& trace() const { return trace_; }

 private:
  // What follows the log of one shard from outside.
  struct Audit {
    explicit Audit(const Clock& clock) : auditor(clock) {}
    Auditor auditor;
    std::size_t batches = 0;
    std::uint64_t next_index = 0;
    std::uint64_t epoch = 0;
    std::map<std::uint64_t, Digest> hashes;  // of the last entry of each batch, by the index after it
  };

  void make_money(ShardId shards);
  void audit_crossing();
  [[nodiscard]] std::string unrest_of_crossing();
  void choose_faults();
  void fault();
  void cut(const std::string& a, const std::string& b, bool one_way);
  void heal();
  void step(bool may_begin);
  void see_links();
  void run_node(SimNode& node, bool may_begin);
  void audit();
  void audit_replicas();
  void compare_digests();
  [[nodiscard]] std::string unrest();
  void check_at_rest();
  void broke(const std::string& what);
  [[nodiscard]] SimNode& any();
  [[nodiscard]] ShardId any_shard();
  [[nodiscard]] bool happens(std::uint64_t one_of) { return random_.below(one_of) == 0; }

  Random random_;
  ManualClock clock_;
  UuidGenerator requests_;
  Network network_;
  MemoryAgreement agreement_;
  Trace trace_;
  SimCluster cluster_;
  std::map<ShardId, std::unique_ptr<Audit>> audits_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::vector<Budget> crossing_;  // budgets that concern all shards
  std::vector<Commitment> commitments_;
  // Of each of these, by the period's start: what each shard has used in it.
  std::map<std::string, std::map<std::int64_t, std::map<ShardId, PicoUsd>>> used_in_;
  std::map<std::pair<ShardId, std::uint64_t>, Digest> digests_;  // by shard and next index
  std::map<ShardId, std::uint64_t> owners_before_;  // their epochs, when the step of this node began
  std::set<int> faults_;      // those that this seed knows
  std::uint64_t fault_of_ = 0;  // one in so many steps; 0: none
  std::uint64_t step_ms_max_ = 0;
  std::int64_t faults_until_ms_ = 0;
  std::string broken_;
  SimReport report_;
};

}  // namespace outlast::cluster::simulation
