// ClusterNode: what makes a node one of several, wired: the control shard's replica, the holder, the links, the election,
// and the shards that it hosts. Everything above sees a LedgerStore (ledger()) and what all nodes go by (control()).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "cluster/boot_clock.hpp"
#include "cluster/checkpoint_service.hpp"
#include "cluster/cluster_ledger.hpp"
#include "cluster/control_view.hpp"
#include "cluster/coordination.hpp"
#include "cluster/coordinator.hpp"
#include "cluster/curve.hpp"
#include "cluster/holder.hpp"
#include "cluster/holder_nodes.hpp"
#include "cluster/peer_links.hpp"
#include "cluster/shard_host.hpp"
#include "cluster/versions.hpp"
#include "core/clock.hpp"
#include "storage/disk_guard.hpp"

namespace outlast::cluster {

struct ClusterNodeOptions {
  std::string cluster;
  std::string node;
  std::string data;       // the node's folder: shards/, spool/, copies/ in it
  std::vector<std::string> roles;
  std::string listen;     // tcp://HOST:PORT, for other nodes
  std::string advertise;  // how they reach it; empty: as bound
  CurveKeys keys;
  bool founder = false;   // enrols itself where nobody is enrolled yet
  ShardId shards = 16;    // the founder's; others go by the cluster's
  std::size_t replicas = 3;
  std::uint32_t lease_ttl_s = 10;
  std::uint64_t trim_keep = 65'536;  // entries that stay in the shared log, for a replica that was away for a moment
  std::string software;
  std::string client_endpoint;  // of the listener for client actors; empty for none
  std::string client_key;
  std::uint64_t disk_free_bytes_min = 2ULL << 30;
  std::uint64_t ballast_bytes = 0;
  std::uint32_t start_ms_max = 20'000;
};

// Ways to the same etcd, so that no call of one kind waits behind another; and one for each shard's log.
struct Agreement {
  std::unique_ptr<Coordination> leases;
  std::unique_ptr<Coordination> calls;
  std::unique_ptr<Coordination> watch;
  std::function<void()> end_watch;  // on return, no hint is given any more
  std::function<std::unique_ptr<SharedLog>(ShardId)> log;
};

// What the control channel of the links brings and takes: remote actors. Called on the network thread; must not block.
struct ControlChannelPorts {
  std::function<void(const Peer&)> on_up;
  std::function<void(const Peer&, const std::string& why)> on_down;
  std::function<void(const Peer&, const FramePtr&)> on_frame;
};

// A shard that this node should have and cannot open, for now.
struct UnopenedShard {
  ShardId shard = 0;
  std::uint32_t attempts = 0;
  std::string error;
};

struct ClusterNodeStatus {
  std::string node;
  Incarnation incarnation;
  bool draining = false;
  std::int64_t lease_left_ms = 0;
  std::vector<Presence> present;      // who holds a lease
  std::vector<ShardStatus> shards;    // as the election has them
  std::vector<HostStatus> hosts;      // this node's replicas
  std::vector<UnopenedShard> unopened;
  std::vector<Peer> peers;            // linked
  std::vector<AgreementMember> agreement;  // as of the last look
  std::map<std::string, std::map<ShardId, std::uint64_t>> heard;  // how far replicas of other nodes are, by node
  std::map<std::string, std::map<ShardId, std::uint64_t>> behind;  // entries that they lacked when they said so, of shards that are here
  PeerCounters links;
  HolderCounters holder;
};

// Any thread, but for start and destruction.
class ClusterNode {
 public:
  // Ready when this returns: enrolled, linked, and with all that nodes go by. Errors: what an administrator has to do.
  static Result<std::unique_ptr<ClusterNode>> start(ClusterNodeOptions options, Agreement agreement, const Clock& clock);
  // Hands its shards over where it can, then stops.
  ~ClusterNode();
  ClusterNode(const ClusterNode&) = delete;
  ClusterNode& operator=(const ClusterNode&) = delete;

  [[nodiscard]] ClusterLedger& ledger() { return *ledger_; }
  [[nodiscard]] ControlBoard& control() { return control_; }
  [[nodiscard]] PeerLinks& links() { return *links_; }
  [[nodiscard]] const Incarnation& incarnation() const { return incarnation_; }
  [[nodiscard]] ShardId shards() const { return shards_; }
  // Whether this node owns the shard, as far as it knows.
  [[nodiscard]] bool leads(ShardId shard) const;
  // Once, before peers matter; those that are up already are told.
  void set_control_channel(ControlChannelPorts ports);
  // Gives its shards away and takes none; reservations of this node go on. `drained` once nothing is left.
  void drain();
  [[nodiscard]] bool drained() const { return drained_; }
  [[nodiscard]] ClusterNodeStatus status() const;
  // `call` gets the latest view of who is there, now and whenever it changes; must not block.
  void watch_nodes(std::function<void(const CoordinationView&)> call);

 private:
  ClusterNode(ClusterNodeOptions options, Agreement agreement, const Clock& clock);
  Result<void> open_control();
  Result<void> check_membership();
  Result<void> start_links();
  void start_coordinator();
  Result<void> enrol();
  void tell_process(const NodeEnrolled& self);
  void end_removed(const ControlView& view);
  void end_replaced(const ControlView& view);
  void learn_processes(const storage::LedgerView& view, const std::vector<storage::StoredEntry>& entries);
  void prepare(ShardHost& host);
  Result<void> await(const char* what, const std::function<bool()>& reached) const;

  // Ports of the coordinator, on its thread.
  void follow(ShardId shard);
  void drop(ShardId shard);
  void take_view(const CoordinationView& view);
  // Of a host, on its thread.
  ShardHostPorts host_ports(ShardId shard);
  void host_progress(const HostStatus& status);
  void send_batch(ShardId shard, std::string_view batch);
  void fetch(ShardId shard);
  void replace_store(ShardId shard, const std::string& folder, std::uint64_t next_index);
  // Of the links, on the network thread.
  void on_frame(const Peer& peer, Channel channel, FramePtr frame);
  void on_message(const std::string& node, shard::Message message);
  void send(const std::string& node, shard::Message message);
  [[nodiscard]] std::string owner_of(ShardId shard) const;  // by this node's view; empty: nobody
  void send_to_owner(ShardId shard, shard::Message message);  // lost where nobody owns it: it is said again
  [[nodiscard]] bool may_say(const std::string& node, const shard::Message& message) const;
  // Of the control board.
  void control_changed(const std::shared_ptr<const ControlView>& view, const ControlChanges& changes);
  void set_peers();
  [[nodiscard]] std::shared_ptr<ShardHost> host_of(ShardId shard) const;
  [[nodiscard]] std::vector<std::shared_ptr<ShardHost>> hosts() const;
  [[nodiscard]] std::string folder_of(ShardId shard) const;
  Result<std::shared_ptr<ShardHost>> open_host(ShardId shard);
  Result<std::shared_ptr<ShardHost>> open_or_replace(ShardId shard);
  void not_opened(ShardId shard, const Error& error);
  void open_again();
  void gossip();
  void trim();
  void run_upkeep();
  void look_at_agreement();
  void compact_agreement();
  void raise_log_format();
  void mirror_budgets();

  const ClusterNodeOptions options_;
  Agreement agreement_;
  const Clock& clock_;
  BootClock boot_clock_;
  Incarnation incarnation_;
  ShardId shards_ = 0;
  HolderNodes holder_nodes_;
  ControlBoard control_;
  std::unique_ptr<storage::DiskGuard> disk_;
  std::unique_ptr<Holder> holder_;
  std::unique_ptr<ClusterLedger> ledger_;
  std::unique_ptr<CheckpointService> checkpoints_;
  std::unique_ptr<PeerLinks> links_;
  std::unique_ptr<Coordinator> coordinator_;

  mutable std::mutex mutex_;  // of what follows
  std::map<ShardId, std::shared_ptr<ShardHost>> hosts_;
  struct Unopened {
    UnopenedShard shard;
    std::int64_t due_ns = 0;
  };
  std::map<ShardId, Unopened> unopened_;
  std::map<ShardId, std::string> fetching_;  // shards that wait for a copy, and from whom
  CoordinationView view_;
  std::mutex peers_mutex_;  // before mutex_: peers are set in the order in which they are known
  std::shared_ptr<const std::vector<Incarnation>> gone_;  // processes of removed nodes
  std::shared_ptr<const std::vector<ShardMoney>> money_;  // by shard
  std::function<void(const CoordinationView&)> on_nodes_;
  std::map<std::string, std::map<ShardId, std::uint64_t>> heard_;
  std::map<std::string, std::map<ShardId, std::uint64_t>> behind_;
  std::vector<AgreementMember> members_;
  bool looking_ = false;
  std::int64_t looked_ns_ = 0;
  std::int64_t compacted_ns_ = 0;  // the upkeep thread's
  std::map<ShardId, std::vector<std::string>> replicas_;  // that are sent what this node appends
  ControlChannelPorts control_channel_;
  std::map<ShardId, std::vector<std::pair<std::int64_t, std::uint64_t>>> trimmable_;  // when, and below which index

  CallThread members_thread_;  // asks etcd's members how they are: the one that is down may take long
  std::atomic<bool> drained_{false};
  std::atomic<bool> removed_{false};  // or replaced: it stops
  bool on_record_ = false;            // this process is the node's in the control log; on that log's thread
  std::atomic<bool> raising_{false};
  std::atomic<bool> mirroring_{false};
  std::atomic<PeerLinks*> sender_{nullptr};  // the links, for as long as anybody may send
  CallThread hosts_thread_;                  // opens and closes stores
  std::atomic<bool> stop_{false};
  std::condition_variable_any upkeep_;
  std::thread upkeep_thread_;
};

}  // namespace outlast::cluster
