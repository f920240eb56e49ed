// The shards that a node hosts: opened, followed, dropped, and taken anew from a peer.
#include <chrono>
#include <filesystem>
#include <utility>

#include "cluster/cluster_node.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

namespace fs = std::filesystem;

constexpr auto readers_look = std::chrono::milliseconds(20);

}  // namespace

Result<std::shared_ptr<ShardHost>> ClusterNode::open_host(ShardId shard) {
  ShardHostOptions options;
  options.shard = shard;
  options.shards = shards_;
  options.folder = folder_of(shard);
  options.node = options_.node;
  options.incarnation = incarnation_;
  options.software = options_.software;
  const auto deadline = coordinator_ ? coordinator_->lead_deadline() : std::make_shared<const std::atomic<std::int64_t>>(0);
  auto opened = ShardHost::open(std::move(options), clock_, boot_clock_, agreement_.log(shard), deadline, host_ports(shard));
  if (!opened) return fail(opened.error());
  std::shared_ptr<ShardHost> host = std::move(*opened);
  const std::lock_guard lock(mutex_);
  hosts_[shard] = host;
  return host;
}

ShardHostPorts ClusterNode::host_ports(ShardId shard) {
  ShardHostPorts ports;
  ports.send = [this](const std::string& node, shard::Message message) { send(node, std::move(message)); };
  ports.send_to_shard = [this](ShardId to, shard::Message message) { send_to_owner(to, std::move(message)); };
  ports.appended = [this](ShardId id, std::string_view batch) { send_batch(id, batch); };
  ports.behind = [this](ShardId id) { fetch(id); };
  ports.progress = [this](const HostStatus& status) { host_progress(status); };
  ports.caught_up = [this](ShardId id, std::uint64_t epoch) {
    coordinator_->with([id, epoch](Election& election) { election.caught_up(id, epoch); });
  };
  ports.stepped_down = [this](ShardId id, std::uint64_t epoch) {
    coordinator_->with([id, epoch](Election& election) { election.stepped_down(id, epoch); });
  };
  ports.failed = [this](ShardId id, std::uint64_t epoch) {
    coordinator_->with([id, epoch](Election& election) { election.failed(id, epoch); });
  };
  if (shard == control_shard) {
    ports.applied = [this](const storage::LedgerState& state, const storage::LedgerView& view,
                           const std::vector<storage::StoredEntry>& entries) { control_.applied(state, view, entries); };
  }
  return ports;
}

// Replicas that are not linked read it from the shared log.
void ClusterNode::send_batch(ShardId shard, std::string_view batch) {
  std::vector<std::string> replicas;
  {
    const std::lock_guard lock(mutex_);
    const auto found = replicas_.find(shard);
    if (found == replicas_.end()) return;
    for (const std::string& node : found->second) {
      const auto heard = heard_.find(node);
      if (heard != heard_.end() && heard->second.contains(shard)) replicas.push_back(node);
    }
  }
  PeerLinks* const links = sender_;
  if (links == nullptr || replicas.empty()) return;
  const FramePtr frame = shard::encode({shard, 0, shard::AppendedBatch{std::string(batch)}});
  for (const std::string& node : replicas) (void)links->send(node, Channel::ledger, frame);
}

void ClusterNode::follow(ShardId shard) {
  if (host_of(shard)) return;
  const auto host = open_host(shard);
  if (!host) {
    log::error("shard_not_opened", {{"shard", name_of_shard(shard)}, {"error", host.error().message}});
    return;
  }
  prepare(**host);
}

void ClusterNode::drop(ShardId shard) {
  std::shared_ptr<ShardHost> dropped;
  const std::lock_guard lock(mutex_);
  const auto at = hosts_.find(shard);
  if (at == hosts_.end() || shard == control_shard) return;
  dropped = std::move(at->second);
  hosts_.erase(at);
}

void ClusterNode::host_progress(const HostStatus& status) {
  if (coordinator_) {
    coordinator_->with([&status](Election& election) { election.own_progress(status.shard, status.applied, status.tail); });
  }
}

// Takes the store from a peer that has the shard, instead of this node's own.
void ClusterNode::fetch(ShardId shard) {
  if (coordinator_ == nullptr || sender_ == nullptr) return;  // asked again
  const auto peers = coordinator_->look<std::vector<std::string>>([shard](const Election& election) { return election.peers_of(shard); });
  std::string from;
  {
    const auto up = links_->up();
    const auto is_up = [&up](const std::string& name) {
      return std::any_of(up.begin(), up.end(), [&name](const Peer& peer) { return peer.node == name; });
    };
    const auto found = std::find_if(peers.begin(), peers.end(), is_up);
    if (found == peers.end()) return;
    from = *found;
    const std::lock_guard lock(mutex_);
    if (!fetching_.emplace(shard, from).second) return;
  }
  const std::string folder = options_.data + "/shards/" + name_of_shard(shard) + "/taken";
  checkpoints_->take(shard, from, folder, [this, shard, folder](Result<std::uint64_t> taken) {
    if (taken) replace_store(shard, folder, *taken);
    const std::lock_guard lock(mutex_);
    fetching_.erase(shard);
  });
}

void ClusterNode::replace_store(ShardId shard, const std::string& folder, std::uint64_t next_index) {
  std::shared_ptr<ShardHost> old;
  {
    const std::lock_guard lock(mutex_);
    const auto at = hosts_.find(shard);
    if (at == hosts_.end()) return;
    old = std::move(at->second);
    hosts_.erase(at);
  }
  while (old.use_count() > 1) std::this_thread::sleep_for(readers_look);  // readers of a moment
  old.reset();
  std::error_code error;
  const std::string place = folder_of(shard);
  const std::string aside = place + ".old";
  fs::remove_all(aside, error);
  fs::rename(place, aside, error);
  fs::rename(folder, place, error);
  if (error) {
    log::error("checkpoint_not_placed", {{"shard", name_of_shard(shard)}, {"error", error.message()}});
    fs::rename(aside, place, error);
  }
  auto host = open_host(shard);
  if (!host) {
    log::error("checkpoint_not_opened", {{"shard", name_of_shard(shard)}, {"error", host.error().message}});
    fs::remove_all(place, error);
    fs::rename(aside, place, error);
    host = open_host(shard);
    if (!host) return;
  }
  fs::remove_all(aside, error);
  prepare(**host);
  log::info("checkpoint_taken", {{"shard", name_of_shard(shard)}, {"entries", next_index}});
}

}  // namespace outlast::cluster
