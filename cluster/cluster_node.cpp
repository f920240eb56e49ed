#include "cluster/cluster_node.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/check.hpp"
#include "core/log.hpp"
#include "core/random.hpp"
#include "proto/shard_codec.hpp"

namespace outlast::cluster {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t stop_ms_max = 8'000;
constexpr auto await_step = std::chrono::milliseconds(20);
constexpr std::string_view shards_setting = "shards";

Failure cannot_start(std::string why) { return fail(AgreementError::refused, std::move(why)); }

std::vector<Member> members_of(const MemberRecords& records) {
  std::vector<Member> members;
  for (const MemberRecord& node : records.nodes) {
    members.push_back({node.enrolled.name, node.state, node.enrolled.roles});
  }
  return members;
}

constexpr VersionRange own_formats{link_version_min, link_version_max};  // presences say both in one

std::string setting_of(const MemberRecords& records, std::string_view name) {
  const auto found = records.settings.find(std::string(name));
  return found == records.settings.end() ? std::string() : found->second;
}

}  // namespace

ClusterNode::ClusterNode(ClusterNodeOptions options, Agreement agreement, const Clock& clock)
    : options_(std::move(options)), agreement_(std::move(agreement)), clock_(clock) {
  UuidGenerator ids(clock, secure_seed());
  incarnation_ = ids.next();
}

Result<std::unique_ptr<ClusterNode>> ClusterNode::start(ClusterNodeOptions options, Agreement agreement,
                                                        const Clock& clock) {
  std::unique_ptr<ClusterNode> node(new ClusterNode(std::move(options), std::move(agreement), clock));
  for (const auto step : {&ClusterNode::open_control, &ClusterNode::check_membership, &ClusterNode::start_links}) {
    if (const Result<void> done = ((*node).*step)(); !done) return fail(done.error());
  }
  node->start_coordinator();
  if (const Result<void> founded = node->enrol(); !founded) return fail(founded.error());
  node->upkeep_thread_ = std::thread([raw = node.get()] { raw->run_upkeep(); });
  return node;
}

ClusterNode::~ClusterNode() {
  if (coordinator_) coordinator_->stop(stop_ms_max);
  stop_ = true;
  upkeep_.notify_all();
  if (upkeep_thread_.joinable()) upkeep_thread_.join();
  members_thread_.end();
  if (holder_) holder_->stop();
  agreement_.end_watch();
  hosts_thread_.end();
  std::map<ShardId, std::shared_ptr<ShardHost>> hosts;
  {
    const std::lock_guard lock(mutex_);
    hosts.swap(hosts_);
  }
  hosts.clear();  // their threads speak to the links, the coordinator and the holder
  links_.reset();  // whose thread still answers by sender_ until it ends
  sender_ = nullptr;
  checkpoints_.reset();
}

std::string ClusterNode::folder_of(ShardId shard) const {
  return options_.data + "/shards/" + name_of_shard(shard) + "/ledger";
}

Result<void> ClusterNode::open_control() {
  std::error_code error;
  fs::create_directories(options_.data + "/shards", error);
  if (error) return cannot_start("cannot make " + options_.data + "/shards: " + error.message());
  disk_ = std::make_unique<storage::DiskGuard>(
      options_.data + "/shards", storage::DiskLimits{options_.disk_free_bytes_min, 0.05, options_.ballast_bytes},
      storage::disk_space_of, clock_);
  HolderOptions holder;
  holder.node = options_.node;
  holder.incarnation = incarnation_;
  holder.folder = options_.data + "/holder";
  holder_ = std::make_unique<Holder>(std::move(holder), clock_, HolderPorts{[this](const std::string& node, shard::Message message) { send(node, std::move(message)); },
                                                 [this] {
                                                   if (coordinator_) coordinator_->view_changed();
                                                 },
                                                 [this] { return disk_->full(); }});
  checkpoints_ = std::make_unique<CheckpointService>(
      options_.data + "/shards/copies",
      CheckpointPorts{[this](const std::string& node, FramePtr frame) -> Result<void> {
                        PeerLinks* const links = sender_;
                        if (links == nullptr) return fail(LinkError::not_connected, "the node is stopping");
                        return links->send(node, Channel::stream, std::move(frame));
                      },
                      [this](ShardId shard, const std::string& folder) -> Result<std::uint64_t> {
                        const auto host = host_of(shard);
                        if (!host) return fail(AgreementError::unavailable, "this node has no replica of the shard");
                        return host->checkpoint(folder);
                      }},
      clock_);
  return {};
}

// What the control shard says of this node, before anything is promised to others.
Result<void> ClusterNode::check_membership() {
  // The coordinator's deadline is not there yet: nobody leads before it starts.
  const auto host = open_host(control_shard);
  if (!host) return fail(host.error());
  struct Answer {
    std::atomic<bool> came = false;
    std::optional<Error> error;
  };
  const auto answer = std::make_shared<Answer>();
  (*host)->when_current([answer](Result<void> done) {
    if (!done) answer->error = done.error();
    answer->came = true;
  });
  if (const Result<void> reached = await("this node's copy of the control log", [&answer] { return answer->came.load(); }); !reached) {
    return reached;
  }
  const std::optional<Error>& error = answer->error;
  const auto view = control_.get();
  shards_ = options_.shards;
  if (const std::string set = setting_of(view->members, shards_setting); !set.empty()) {
    unsigned number = 0;
    const auto [end, wrong] = std::from_chars(set.data(), set.data() + set.size(), number);
    if (wrong != std::errc() || number == 0 || number > shards_max) return cannot_start("the cluster's setting shards is '" + set + "'");
    shards_ = static_cast<ShardId>(number);
  }
  if (error && view->members.nodes.empty()) {
    return cannot_start("the cluster's etcd cannot be used: " + error->message + "; see [cluster] etcd in the configuration");
  }
  if (error) log::warning("started_without_etcd", {{"error", error->message}});
  const MemberRecord* self = view->members.find(options_.node);
  // Without etcd the copy may be older than the word that let this node in: then another start may go well.
  const auto not_let_in = [&error](storage::LedgerError why, std::string text) -> Failure {
    if (error) return cannot_start(std::move(text) + "; but etcd cannot be reached, and it may know better: " + error->message);
    return fail(why, std::move(text));
  };
  if (view->members.nodes.empty()) {
    if (!options_.founder) {
      return cannot_start("the cluster " + options_.cluster + " has no nodes yet; found it with `outlast node init --found`, or "
                          "join with `outlast node join`");
    }
    return {};
  }
  if (self == nullptr || self->enrolled.public_key != options_.keys.public_key) {
    return not_let_in(storage::LedgerError::unknown_node,
                      "the cluster " + options_.cluster + " does not know this node as " + options_.node +
                          "; make a token there with `outlast node token` and run `outlast node join` here");
  }
  if (!self->takes_part()) {
    return not_let_in(storage::LedgerError::not_enrolled,
                      "the node " + options_.node + " was " + std::string(name_of(self->state)) + " by " + self->changed_by + " (" +
                          self->reason + "); it has to join again");
  }
  const auto pinned = parse_log_format(setting_of(view->members, log_format_setting));
  if (!pinned) return fail(pinned.error());
  if (const Result<void> may = may_run(own_formats, *pinned); !may) return may;
  return {};
}

Result<void> ClusterNode::start_links() {
  std::vector<Incarnation> on_record;
  const auto view = control_.get();
  const MemberRecord* self = view->members.find(options_.node);
  if (self != nullptr && !self->enrolled.incarnation.is_nil()) on_record.push_back(self->enrolled.incarnation);
  if (const Result<void> begun = holder_->start(shards_, on_record); !begun) return begun;
  ledger_ = std::make_unique<ClusterLedger>(ClusterLedgerDependencies{*holder_, control_, *disk_, shards_, [this] { return hosts(); }});
  PeerLinkOptions links;
  links.listen = options_.listen;
  links.secret_key = options_.keys.secret_key;
  links.cluster = options_.cluster;
  links.node = options_.node;
  links.incarnation = incarnation_;
  PeerHandlers handlers;
  handlers.on_up = [this](const Peer& peer) {
    log::info("peer_up", {{"node", peer.node}, {"version", peer.version}});
    holder_nodes_.learn(peer.incarnation, peer.node);
    holder_->peer_up(peer.node);
    if (coordinator_) coordinator_->with([&peer](Election& election) { election.peer_suspected(peer.node, false); });
    const std::lock_guard lock(mutex_);
    if (control_channel_.on_up) control_channel_.on_up(peer);
  };
  handlers.on_down = [this](const Peer& peer, const std::string& why) {
    log::warning("peer_down", {{"node", peer.node}, {"why", why}});
    holder_->peer_down(peer.node);
    checkpoints_->peer_down(peer.node);
    {
      const std::lock_guard lock(mutex_);
      heard_.erase(peer.node);
      behind_.erase(peer.node);
    }
    if (coordinator_) coordinator_->with([&peer](Election& election) { election.peer_suspected(peer.node, true); });
    const std::lock_guard lock(mutex_);
    if (control_channel_.on_down) control_channel_.on_down(peer, why);
  };
  handlers.on_frame = [this](const Peer& peer, Channel channel, FramePtr frame) { on_frame(peer, channel, std::move(frame)); };
  auto started = PeerLinks::start(std::move(links), clock_, std::move(handlers));
  if (!started) return fail(started.error());
  links_ = std::move(*started);
  sender_ = links_.get();
  return {};
}

void ClusterNode::start_coordinator() {
  ElectionOptions election;
  election.node = options_.node;
  election.incarnation = incarnation_;
  election.shards = shards_;
  election.replicas = options_.replicas;
  election.ttl_s = options_.lease_ttl_s;
  Presence presence;
  presence.node = options_.node;
  presence.incarnation = incarnation_;
  presence.endpoint = options_.advertise.empty() ? links_->endpoint() : options_.advertise;
  presence.client_endpoint = options_.client_endpoint;
  presence.client_key = options_.client_key;
  presence.roles = options_.roles;
  presence.version_min = link_version_min;
  presence.version_max = link_version_max;
  presence.software = options_.software;
  presence.replicas = static_cast<std::uint16_t>(options_.replicas);
  CoordinatorPorts ports;
  // Stores are opened and closed on a thread of their own, or keepalives would wait for them; what concerns a shard queues
  // behind it.
  ports.follow = [this](ShardId shard) { hosts_thread_.push([this, shard] { follow(shard); }); };
  ports.drop = [this](ShardId shard) { hosts_thread_.push([this, shard] { drop(shard); }); };
  ports.catch_up = [this](ShardId shard, std::uint64_t epoch) {
    hosts_thread_.push([this, shard, epoch] {
      if (const auto host = host_of(shard)) host->catch_up(epoch);
      else coordinator_->with([shard, epoch](Election& made) { made.failed(shard, epoch); });
    });
  };
  ports.lead = [this](ShardId shard, std::uint64_t epoch) {
    hosts_thread_.push([this, shard, epoch] {
      if (const auto host = host_of(shard)) host->lead(epoch);
      else coordinator_->with([shard, epoch](Election& made) { made.failed(shard, epoch); });
    });
  };
  ports.step_down = [this](ShardId shard, std::uint64_t epoch, election::Why why) {
    log::info("shard_given_up", {{"shard", name_of_shard(shard)}, {"why", name_of(why)}});
    hosts_thread_.push([this, shard, epoch] {
      if (const auto host = host_of(shard)) host->step_down(epoch);
      else coordinator_->with([shard, epoch](Election& made) { made.stepped_down(shard, epoch); });
    });
  };
  ports.tell = [this](const std::string& node, ShardId shard) { send(node, {shard, 0, shard::ShardFree{}}); };
  ports.view = [this](const CoordinationView& view) { take_view(view); };
  ports.drained = [this] {
    drained_ = true;
    log::info("shards_given_away");
  };
  coordinator_ = std::make_unique<Coordinator>(std::move(election), std::move(presence), *agreement_.leases, *agreement_.calls,
                                               boot_clock_, secure_seed(), std::move(ports));
  // The control shard was opened before there was a deadline to look at.
  const auto control = host_of(control_shard);
  control->set_lead_deadline(coordinator_->lead_deadline());
  control_.listen([this](const std::shared_ptr<const ControlView>& view, const ControlChanges& changes) {
    control_changed(view, changes);
  });
  if (control_.get()->members.nodes.empty()) {
    coordinator_->with([this](Election& made) { made.set_members({{options_.node, NodeState::active, options_.roles}}); });
  }
  coordinator_->start();
  agreement_.watch->watch([this] { coordinator_->view_changed(); },
                          [this](ShardId shard) {
                            if (const auto host = host_of(shard)) host->log_grew();
                          });
}

// The founder enrols itself, and says how the cluster is cut; others say where they are now, where that changed.
Result<void> ClusterNode::enrol() {
  struct Answer {
    std::mutex mutex;
    std::optional<Result<void>> result;
  };
  const auto record = [this](MemberOperation operation) -> Result<void> {
    const auto answer = std::make_shared<Answer>();
    ledger_->record_member(std::move(operation), [answer](Result<void> done) {
      const std::lock_guard lock(answer->mutex);
      answer->result = std::move(done);
    });
    const auto answered = [answer] {
      const std::lock_guard lock(answer->mutex);
      return answer->result.has_value();
    };
    if (Result<void> reached = await("the control log's first entries", answered); !reached) return reached;
    return *answer->result;
  };
  NodeEnrolled self;
  self.name = options_.node;
  self.public_key = options_.keys.public_key;
  self.endpoint = options_.advertise.empty() ? links_->endpoint() : options_.advertise;
  self.roles = options_.roles;
  self.incarnation = incarnation_;
  const auto view = control_.get();
  if (const MemberRecord* known = view->members.find(options_.node); known != nullptr) {
    self.by = options_.node;
    tell_process(self);
    return {};
  }
  self.by = "founder";
  // First, so that no node ever cuts the ledger in another way.
  if (Result<void> set = record(SettingSet{std::string(shards_setting), std::to_string(shards_), "founder"}); !set) return set;
  // All of its nodes can read what this one can.
  if (Result<void> set = record(SettingSet{std::string(log_format_setting), std::to_string(link_version_max), "founder"}); !set) return set;
  if (Result<void> enrolled = record(self); !enrolled) return enrolled;
  log::info("cluster_founded", {{"cluster", options_.cluster}, {"shards", shards_}});
  return {};
}

// The cluster knows whom to end when this node is gone for good. Until the control log takes it.
void ClusterNode::tell_process(const NodeEnrolled& self) {
  ledger_->record_member(self, [this, self](const Result<void>& done) {
    if (done || stop_) return;
    log::warning("process_not_told", {{"error", done.error().message}});
    if (is(done.error(), storage::LedgerError::unavailable)) tell_process(self);
  });
}

Result<void> ClusterNode::await(const char* what, const std::function<bool()>& reached) const {
  const std::int64_t until_ns = clock_.monotonic_ns() + options_.start_ms_max * 1'000'000LL;
  while (!reached()) {
    if (clock_.monotonic_ns() > until_ns) {
      return cannot_start(std::string("waited ") + std::to_string(options_.start_ms_max / 1'000) + " s for " + what +
                          "; is etcd reachable, and does a node with the role ledger run?");
    }
    std::this_thread::sleep_for(await_step);
  }
  return {};
}

void ClusterNode::take_view(const CoordinationView& view) {
  bool changed = false;
  {
    const std::lock_guard lock(mutex_);
    changed = view.nodes != view_.nodes;
    view_ = view;
    if (changed && on_nodes_) on_nodes_(view_);
  }
  if (changed) set_peers();
  holder_->set_owners(view.owners);
}

void ClusterNode::on_frame(const Peer& peer, Channel channel, FramePtr frame) {
  if (channel == Channel::stream) return checkpoints_->receive(peer.node, std::move(frame));
  if (channel == Channel::control) {
    const std::lock_guard lock(mutex_);
    if (control_channel_.on_frame) control_channel_.on_frame(peer, frame);
    return;
  }
  auto message = shard::decode(frame->bytes());
  if (message) return on_message(peer.node, std::move(*message));
  if (!is(message.error(), FrameError::unknown_kind)) {
    log::warning("shard_message_malformed", {{"node", peer.node}, {"error", message.error().message}});
  }
}

void ClusterNode::on_message(const std::string& node, shard::Message message) {
  const ShardId shard = message.shard;
  if (const auto* progress = std::get_if<shard::NodeProgress>(&message.body)) {
    std::map<ShardId, std::uint64_t> applied;
    std::map<ShardId, std::uint64_t> behind;
    for (const shard::ShardProgress& one : progress->shards) {
      applied[one.shard] = one.applied;
      const auto host = host_of(one.shard);
      if (!host) continue;
      const HostStatus own = host->status();
      const std::uint64_t tail = std::max(own.applied, own.tail);
      behind[one.shard] = tail - std::min(tail, one.applied);
    }
    {
      const std::lock_guard lock(mutex_);
      heard_[node] = std::move(applied);
      behind_[node] = std::move(behind);
    }
    coordinator_->with([&](Election& election) {
      for (const auto& one : progress->shards) {
        election.peer_progress(node, progress->incarnation, {one.shard, one.applied, one.takes});
      }
    });
  } else if (std::holds_alternative<shard::ShardFree>(message.body)) {
    coordinator_->with([shard](Election& election) { election.told(shard); });
  } else if (std::holds_alternative<shard::Tail>(message.body)) {
    if (const auto host = host_of(shard)) host->log_grew();
  } else if (auto* batch = std::get_if<shard::AppendedBatch>(&message.body)) {
    if (const auto host = host_of(shard)) host->take_batch(std::move(batch->bytes));
  } else if (is_for_owner(message)) {
    if (!may_say(node, message)) return;
    if (const auto host = host_of(shard)) return host->receive(node, std::move(message));
    if (auto answer = not_owner(message, {}, 0)) send(node, std::move(*answer));
  } else {
    holder_->receive(node, std::move(message));
  }
}

void ClusterNode::send(const std::string& node, shard::Message message) {
  if (node == options_.node) return on_message(node, std::move(message));
  // What a full or broken link loses is said again: every message of holders and owners is made for that.
  PeerLinks* const links = sender_;
  if (links == nullptr) return;
  const Result<void> sent = links->send(node, Channel::ledger, shard::encode(message));
  static_cast<void>(sent);
}

std::string ClusterNode::owner_of(ShardId shard) const {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(view_.owners.begin(), view_.owners.end(), [shard](const Ownership& one) { return one.shard == shard; });
  return found == view_.owners.end() ? std::string() : found->node;
}

void ClusterNode::send_to_owner(ShardId shard, shard::Message message) {
  const std::string owner = owner_of(shard);
  if (!owner.empty()) send(owner, std::move(message));
}

// Parts of budgets are a matter of those who own the shards; what comes from another is said again by its owner.
bool ClusterNode::may_say(const std::string& node, const shard::Message& message) const {
  if (const auto* demand = std::get_if<shard::AllotmentDemand>(&message.body)) return owner_of(demand->from) == node;
  if (const auto* terms = std::get_if<shard::AllotmentTerms>(&message.body)) return owner_of(terms->from) == node;
  return true;
}

void ClusterNode::control_changed(const std::shared_ptr<const ControlView>& view, const ControlChanges& changes) {
  if (changes.members && !view->members.nodes.empty()) {
    set_peers();
    coordinator_->with([&view](Election& election) { election.set_members(members_of(view->members)); });
    end_removed(*view);
    end_replaced(*view);
  }
  const bool of_keys = std::any_of(view->budgets.begin(), view->budgets.end(), [](const Budget& budget) { return budget.scope.kind == ScopeKind::key; });
  if (!changes.budgets && !changes.commitments && !(changes.keys && of_keys)) return;
  auto money = std::make_shared<const std::vector<ShardMoney>>(money_of_shards(*view, shards_));
  holder_->set_money(money);
  {
    const std::lock_guard lock(mutex_);
    money_ = std::move(money);
  }
  for (const auto& host : hosts()) prepare(*host);
}

// What a host needs to know before it may lead.
void ClusterNode::prepare(ShardHost& host) {
  const ShardId shard = host.options().shard;
  if (shard == control_shard) return;
  const std::lock_guard lock(mutex_);
  if (money_) host.set_money(money_);
  if (gone_) host.set_gone(gone_);
}

std::shared_ptr<ShardHost> ClusterNode::host_of(ShardId shard) const {
  const std::lock_guard lock(mutex_);
  const auto at = hosts_.find(shard);
  return at == hosts_.end() ? nullptr : at->second;
}

std::vector<std::shared_ptr<ShardHost>> ClusterNode::hosts() const {
  std::vector<std::shared_ptr<ShardHost>> hosts;
  const std::lock_guard lock(mutex_);
  for (const auto& [shard, host] : hosts_) hosts.push_back(host);
  return hosts;
}

void ClusterNode::set_control_channel(ControlChannelPorts ports) {
  const std::lock_guard lock(mutex_);
  const auto up = links_->up();
  control_channel_ = std::move(ports);
  if (!control_channel_.on_up) return;
  for (const Peer& peer : up) control_channel_.on_up(peer);
}

bool ClusterNode::leads(ShardId shard) const {
  const auto host = host_of(shard);
  return host && host->status().leading;
}

void ClusterNode::drain() { coordinator_->drain(); }

void ClusterNode::watch_nodes(std::function<void(const CoordinationView&)> call) {
  const std::lock_guard lock(mutex_);
  on_nodes_ = std::move(call);
  if (on_nodes_) on_nodes_(view_);
}

ClusterNodeStatus ClusterNode::status() const {
  ClusterNodeStatus status;
  status.node = options_.node;
  status.incarnation = incarnation_;
  {
    const std::lock_guard lock(mutex_);
    status.present = view_.nodes;
    status.heard = heard_;
    status.behind = behind_;
    status.agreement = members_;
    for (const auto& [shard, unopened] : unopened_) status.unopened.push_back(unopened.shard);
  }
  status.lease_left_ms = std::max<std::int64_t>(0, coordinator_->lead_deadline_ns() - boot_clock_.monotonic_ns()) / 1'000'000;
  coordinator_->look<bool>([&status](const Election& election) {
    status.draining = election.draining();
    status.shards = election.status();
    return true;
  });
  for (const auto& host : hosts()) {
    HostStatus one = host->status();
    // A replica learns how long the log is from those that report of it, its owner among them.
    for (const auto& [node, shards] : status.heard) {
      if (const auto reported = shards.find(one.shard); reported != shards.end()) one.tail = std::max(one.tail, reported->second);
    }
    status.hosts.push_back(std::move(one));
  }
  status.peers = links_->up();
  status.links = links_->counters();
  status.holder = holder_->counters();
  return status;
}

// The control shard's owner lets the log's format rise once every node can read the next one.
void ClusterNode::raise_log_format() {
  const auto control = host_of(control_shard);
  if (!control->status().leading) return;
  const auto view = control_.get();
  const auto pinned = parse_log_format(setting_of(view->members, log_format_setting));
  if (!pinned) return;
  std::vector<NodeVersions> versions;
  {
    const std::lock_guard lock(mutex_);
    versions = versions_of(members_of(view->members), view_.nodes);
  }
  const auto rise = rise_of(*pinned, versions);
  if (!rise || raising_.exchange(true)) return;
  ledger_->record_member(SettingSet{std::string(log_format_setting), std::to_string(*rise), options_.node},
                         [this, rise](const Result<void>& done) {
                           raising_ = false;
                           if (done) log::info("log_format_raised", {{"format", *rise}});
                         });
}

}  // namespace outlast::cluster
