// The shards that a node hosts: opened, followed, dropped, and taken anew from a peer.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <utility>

#include "cluster/cluster_node.hpp"
#include "core/log.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::cluster {
namespace {

namespace fs = std::filesystem;

constexpr auto readers_look = std::chrono::milliseconds(20);
constexpr std::int64_t open_again_ns_min = 1'000'000'000;  // then twice that, …
constexpr std::int64_t open_again_ns_max = 60'000'000'000;
constexpr std::uint32_t open_doublings_max = 10;
constexpr std::uint64_t processes_read_max = 65'536;  // entries of the control log

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
  ports.node_of = [this](const Incarnation& holder) { return holder_nodes_.node_of(holder); };
  if (shard == control_shard) {
    ports.applied = [this](const storage::LedgerState& state, const storage::LedgerView& view,
                           const std::vector<storage::StoredEntry>& entries) {
      learn_processes(view, entries);
      control_.applied(state, view, entries);
    };
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

// What nodes said of their processes. Without entries the control log's replica was just opened: then each node's latest
// process, and the earlier ones as far as the newest part of the log has them.
void ClusterNode::learn_processes(const storage::LedgerView& view, const std::vector<storage::StoredEntry>& entries) {
  const auto learn = [this](const storage::StoredEntry& entry) {
    const auto* const enrolled = std::get_if<NodeEnrolled>(&entry.body);
    if (enrolled != nullptr) holder_nodes_.learn(enrolled->incarnation, enrolled->name);
    return true;
  };
  for (const storage::StoredEntry& entry : entries) learn(entry);
  if (!entries.empty()) return;
  const auto head = storage::load_head(view);
  const auto members = storage::members_of(view);
  if (!head || !members) return;  // whoever reads the same next says so
  for (const MemberRecord& node : members->nodes) holder_nodes_.learn(node.enrolled.incarnation, node.enrolled.name);
  const std::uint64_t from = head->next_index - std::min(head->next_index, processes_read_max);
  const Result<void> read = storage::read_entries(view, from, learn);
  if (!read) log::warning("control_log_not_read", {{"error", read.error().message}});
}

void ClusterNode::follow(ShardId shard) {
  if (host_of(shard)) return;
  const auto host = open_or_replace(shard);
  if (!host) return not_opened(shard, host.error());
  {
    const std::lock_guard lock(mutex_);
    unopened_.erase(shard);
  }
  prepare(**host);
}

// A store that is damaged is no use: it goes aside, for people to look at, and an empty one follows the log, or takes a copy
// from a peer where the log is trimmed. Whatever else is wrong (another process has it, the disk is full) may pass.
Result<std::shared_ptr<ShardHost>> ClusterNode::open_or_replace(ShardId shard) {
  auto host = open_host(shard);
  if (host || !is(host.error(), storage::LedgerError::corrupt)) return host;
  const std::string place = folder_of(shard);
  // What went aside before may be the only whole copy of what was trimmed since.
  std::string aside = place + ".damaged";
  for (int number = 2; fs::exists(aside); ++number) aside = place + ".damaged-" + std::to_string(number);
  log::error("shard_damaged", {{"shard", name_of_shard(shard)}, {"error", host.error().message}, {"moved_to", aside}});
  std::error_code error;
  fs::rename(place, aside, error);
  if (error) return fail(storage::LedgerError::io, "cannot move " + place + " aside: " + error.message());
  return open_host(shard);
}

void ClusterNode::not_opened(ShardId shard, const Error& error) {
  const std::lock_guard lock(mutex_);
  Unopened& unopened = unopened_[shard];
  const std::int64_t wait_ns = std::min(open_again_ns_min << std::min(unopened.shard.attempts, open_doublings_max), open_again_ns_max);
  unopened.due_ns = clock_.monotonic_ns() + wait_ns;
  if (unopened.shard.error != error.message) {
    log::error("shard_not_opened", {{"shard", name_of_shard(shard)}, {"error", error.message}, {"effect", "tried again"}});
  }
  unopened.shard = {shard, unopened.shard.attempts + 1, error.message};
}

void ClusterNode::open_again() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  const std::lock_guard lock(mutex_);
  for (auto& [shard, unopened] : unopened_) {
    if (now_ns < unopened.due_ns) continue;
    unopened.due_ns = std::numeric_limits<std::int64_t>::max();  // until this try has ended
    hosts_thread_.push([this, id = shard] {
      {
        const std::lock_guard again(mutex_);
        if (!unopened_.contains(id)) return;  // it was dropped meanwhile
      }
      follow(id);
    });
  }
}

void ClusterNode::drop(ShardId shard) {
  std::shared_ptr<ShardHost> dropped;
  const std::lock_guard lock(mutex_);
  unopened_.erase(shard);
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
    if (!host) return not_opened(shard, host.error());
  }
  fs::remove_all(aside, error);
  prepare(**host);
  log::info("checkpoint_taken", {{"shard", name_of_shard(shard)}, {"entries", next_index}});
}

}  // namespace outlast::cluster
