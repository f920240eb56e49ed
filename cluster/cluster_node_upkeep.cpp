// What a node of a cluster does every now and then.
#include <chrono>
#include <utility>

#include "cluster/cluster_node.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr auto upkeep_interval = std::chrono::milliseconds(500);
constexpr std::int64_t trim_delay_ns = 10'000'000'000;  // what replicas applied so long ago is on their disks: they sync each second
constexpr std::int64_t look_interval_ns = 5'000'000'000;
constexpr std::int64_t compact_interval_ns = 300'000'000'000;  // etcd keeps every version of every key until it is told

}  // namespace

void ClusterNode::run_upkeep() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    upkeep_.wait_for(lock, upkeep_interval, [this] { return stop_.load(); });
    if (stop_) return;
    lock.unlock();
    gossip();
    trim();
    open_again();
    disk_->release_ballast_if_full();
    mirror_budgets();
    look_at_agreement();
    compact_agreement();
    raise_log_format();
    lock.lock();
  }
}

// Peers learn how far this node's replicas are.
void ClusterNode::gossip() {
  shard::NodeProgress progress;
  progress.incarnation = incarnation_;
  const auto report = coordinator_->look<std::vector<ShardProgress>>([](const Election& election) { return election.progress_report(); });
  for (const ShardProgress& one : report) progress.shards.push_back({one.shard, one.applied, one.takes});
  for (const Peer& peer : links_->up()) send(peer.node, {control_shard, 0, progress});
  for (const auto& host : hosts()) {
    const ShardId shard = host->options().shard;
    auto peers = coordinator_->look<std::vector<std::string>>([shard](const Election& election) { return election.peers_of(shard); });
    const std::lock_guard lock(mutex_);
    replicas_[shard] = std::move(peers);
  }
}

void ClusterNode::look_at_agreement() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  {
    const std::lock_guard lock(mutex_);
    if (looking_ || (looked_ns_ != 0 && now_ns - looked_ns_ < look_interval_ns)) return;
    looking_ = true;
    looked_ns_ = now_ns;
  }
  members_thread_.push([this] {
    auto members = agreement_.calls->members();
    const std::lock_guard lock(mutex_);
    members_ = std::move(members);
    looking_ = false;
  });
}

// The duty of the control shard's owner, so that the service's database stays small.
void ClusterNode::compact_agreement() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (now_ns - compacted_ns_ < compact_interval_ns || !leads(control_shard)) return;
  compacted_ns_ = now_ns;
  members_thread_.push([this] {
    const Result<void> compacted = agreement_.calls->compact();
    if (!compacted) log::warning("agreement_not_compacted", {{"error", compacted.error().message}});
  });
}

// New owners take the control log's budgets over once this node's copy of it is surely not older than theirs.
void ClusterNode::mirror_budgets() {
  std::vector<std::pair<std::shared_ptr<ShardHost>, std::uint64_t>> wanting;
  for (const auto& host : hosts()) {
    const HostStatus status = host->status();
    if (status.leading && !status.mirrors && status.shard != control_shard) wanting.emplace_back(host, status.epoch);
  }
  if (wanting.empty() || mirroring_.exchange(true)) return;
  host_of(control_shard)->when_current([this, wanting](const Result<void>& current) {
    mirroring_ = false;
    if (!current) return;  // later
    for (const auto& [host, epoch] : wanting) host->mirror(epoch);
  });
}

void ClusterNode::trim() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (const auto& host : hosts()) {
    const ShardId shard = host->options().shard;
    // The control log stays whole: a node that joins has nobody to take a copy from yet.
    if (shard == control_shard || !host->status().leading) continue;
    const auto lowest = coordinator_->look<std::optional<std::uint64_t>>(
        [shard](const Election& election) { return election.lowest_applied(shard); });
    if (!lowest || *lowest <= options_.trim_keep) continue;
    auto& seen = trimmable_[shard];
    seen.emplace_back(now_ns, *lowest - options_.trim_keep);
    std::uint64_t below = 0;
    while (!seen.empty() && seen.front().first + trim_delay_ns < now_ns) {
      below = seen.front().second;
      seen.erase(seen.begin());
    }
    if (below > 0) host->trim(below);
  }
}

}  // namespace outlast::cluster
