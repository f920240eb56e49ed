#include "tests/cluster/simulate/sim_node.hpp"

#include <algorithm>
#include <utility>

#include "cluster/durations.hpp"
#include "cluster/shard_host.hpp"
#include "core/check.hpp"

namespace outlast::cluster::simulation {
namespace {

constexpr std::int64_t view_interval_ns = 1'000 * ns_per_ms;
constexpr std::int64_t view_retry_ns = 200 * ns_per_ms;
constexpr std::int64_t gossip_interval_ns = 500 * ns_per_ms;
constexpr std::int64_t drain_ms_max = 6'000;
constexpr std::int64_t stop_ms_max = 3'000;
constexpr std::int64_t away_ms = 500;
constexpr std::string_view ledger_role = "ledger";

bool is_of_lease(const election::Effect& effect) {
  return std::holds_alternative<election::StartLease>(effect) || std::holds_alternative<election::KeepAlive>(effect) ||
         std::holds_alternative<election::EndLease>(effect) || std::holds_alternative<election::Announce>(effect);
}

}  // namespace

SimNode::SimNode(std::string node, SimCluster& cluster, std::int64_t clock_origin_ns)
    : name(std::move(node)), cluster_(cluster), clock_(cluster.clock, clock_origin_ns) {
  for (ShardId shard = 0; shard < cluster.money.size(); ++shard) {
    std::vector<std::string> ids;
    for (const ShardBudget& one : cluster.money[shard].budgets) ids.push_back(one.budget.id);
    gateways_[shard] = std::make_unique<HolderNode>(name, std::move(ids), cluster.random, clock_, cluster.requests,
                                                    cluster.lanes.at(shard));
  }
}

// ---- the process

void SimNode::start() {
  check(!is_up(), "a node that runs is not started");
  // As a process makes its own: by its wall clock.
  incarnation_ = UuidGenerator(clock_, cluster_.random.next()).next();
  coordination_ = cluster_.agreement.node(name);
  ElectionOptions options = cluster_.election;
  options.node = name;
  options.incarnation = incarnation_;
  election_ = std::make_unique<Election>(std::move(options), clock_, cluster_.random.next());
  election_->set_members(cluster_.members);
  for (Lane& lane : lanes_) lane = {};
  owners_.clear();
  inbox_.clear();
  links.clear();
  paused_ = drained_ = stopped_ = false;
  leaving_ = Leaving::no;
  deadline_ns_ = view_due_ns_ = gossip_due_ns_ = 0;
  view_wanted_ = true;
  coordination_->watch([this] { view_wanted_ = true; },
                       [this](ShardId shard) {
                         if (const auto at = hosts_.find(shard); at != hosts_.end()) at->second->log_grew();
                       });
  follow(control_shard);
  for (auto& [shard, gateway] : gateways_) gateway->start(incarnation_);
  links[name] = incarnation_;
  cluster_.trace.note(name + " starts");
}

void SimNode::end_process() {
  for (Lane& lane : lanes_) lane = {};  // who waits for their answers is gone
  hosts_.clear();
  election_.reset();
  coordination_.reset();
  inbox_.clear();
  paused_ = false;
  cluster_.network.forget_from(name);
}

void SimNode::crash(bool wipe) {
  cluster_.trace.note(name + (wipe ? " crashes and loses its disk" : " crashes"));
  // What was under way to the agreement may arrive.
  for (Lane& lane : lanes_) {
    if (lane.sent && !lane.calls.front().performed && cluster_.random.below(2) == 0) perform(lane.calls.front());
    lane = {};
  }
  end_process();
  for (auto& [shard, disk] : disks_) disk.crash(cluster_.random);
  if (wipe) disks_.clear();
  for (auto& [shard, gateway] : gateways_) gateway->crash(wipe);
  leaving_ = Leaving::no;
}

void SimNode::pause(bool paused) {
  if (paused != paused_) cluster_.trace.note(name + (paused ? " is paused" : " goes on"));
  paused_ = paused;
}

void SimNode::restart_in_order() {
  cluster_.trace.note(name + " drains");
  leaving_ = Leaving::draining;
  leaving_until_ms_ = cluster_.clock.wall_ms() + drain_ms_max;
  drained_ = false;
  election_->drain();
}

void SimNode::hang(ShardId shard, bool hangs) {
  if (const auto at = hosts_.find(shard); at != hosts_.end()) at->second->hangs = hangs;
}

void SimNode::leave() {
  const std::int64_t now_ms = cluster_.clock.wall_ms();
  if (leaving_ == Leaving::draining && (drained_ || now_ms >= leaving_until_ms_)) {
    cluster_.trace.note(name + (drained_ ? " stops, drained" : " stops"));
    leaving_ = Leaving::stopping;
    leaving_until_ms_ = now_ms + stop_ms_max;
    election_->stop();
  } else if (leaving_ == Leaving::stopping && (stopped_ || now_ms >= leaving_until_ms_)) {
    for (auto& [shard, host] : hosts_) host->finish();
    end_process();
    for (auto& [shard, disk] : disks_) disk.crash(cluster_.random);
    for (auto& [shard, gateway] : gateways_) gateway->crash(false);
    leaving_ = Leaving::away;
    leaving_until_ms_ = now_ms + away_ms;
  } else if (leaving_ == Leaving::away && now_ms >= leaving_until_ms_) {
    start();
  }
}

// ---- messages

void SimNode::send(const std::string& to, const shard::Message& message) {
  if (to == name) return on_message(name, message);
  if (links.contains(to)) cluster_.network.send(name, to, message);
}

void SimNode::receive(const std::string& from, const shard::Message& message) {
  if (is_up()) inbox_.emplace_back(from, message);
}

void SimNode::on_message(const std::string& from, const shard::Message& message) {
  const auto host = hosts_.find(message.shard);
  if (const auto* progress = std::get_if<shard::NodeProgress>(&message.body)) {
    for (const auto& one : progress->shards) {
      election_->peer_progress(from, progress->incarnation, {one.shard, one.applied, one.takes});
    }
  } else if (std::holds_alternative<shard::ShardFree>(message.body)) {
    election_->told(message.shard);
  } else if (std::holds_alternative<shard::Tail>(message.body)) {
    if (host != hosts_.end()) host->second->log_grew();
  } else if (const auto* batch = std::get_if<shard::AppendedBatch>(&message.body)) {
    if (host != hosts_.end()) host->second->take_batch(batch->bytes);
  } else if (is_for_owner(message)) {
    if (host != hosts_.end()) return host->second->receive(from, message);
    const auto* operations = std::get_if<shard::Operations>(&message.body);
    if (operations == nullptr) return;
    send(from, {message.shard, message.epoch, shard::NotOwner{operations->holder, operations->stream, 0, {}, 0}});
  } else if (const auto gateway = gateways_.find(message.shard); gateway != gateways_.end()) {
    gateway->second->receive(from, message);
  }
}

void SimNode::see_peer(const std::string& peer, bool up) {
  election_->peer_suspected(peer, !up);
  for (const auto& [shard, gateway] : gateways_) connect(shard);
}

void SimNode::connect(ShardId shard) {
  const auto gateway = gateways_.find(shard);
  if (gateway == gateways_.end()) return;
  HolderNode& holder = *gateway->second;
  const auto owner = owners_.find(shard);
  const bool reachable = owner != owners_.end() && links.contains(owner->second.node);
  const bool connected = !holder.linked_to.empty();
  if (reachable && connected && holder.linked_epoch == owner->second.epoch) return;
  if (reachable) holder.link(owner->second.node, owner->second.epoch);
  else if (connected) holder.unlink();
}

void SimNode::gossip() {
  shard::NodeProgress progress;
  progress.incarnation = incarnation_;
  for (const ShardProgress& one : election_->progress_report()) {
    progress.shards.push_back({one.shard, one.applied, one.takes});
  }
  for (const auto& [peer, incarnation] : links) {
    if (peer != name) send(peer, {control_shard, 0, progress});
  }
}

// ---- calls to the agreement

Presence SimNode::presence(bool takes_shards) const {
  Presence presence;
  presence.node = name;
  presence.incarnation = incarnation_;
  if (takes_shards) presence.roles.emplace_back(ledger_role);
  return presence;
}

void SimNode::begin_calls() {
  if (view_wanted_) look_at_view();
  for (Lane& lane : lanes_) {
    if (lane.sent || lane.calls.empty()) continue;
    lane.sent = true;
    Call& call = lane.calls.front();
    call.sent_ns = clock_.monotonic_ns();
    const std::uint64_t longest_ms = cluster_.slow_calls && cluster_.random.below(40) == 0 ? 600 : 4;
    call.at_ms = cluster_.clock.wall_ms() + static_cast<std::int64_t>(cluster_.random.below(longest_ms));
    call.answer_ms = call.at_ms + 1 + static_cast<std::int64_t>(cluster_.random.below(4));
  }
}

void SimNode::look_at_view() {
  view_wanted_ = false;
  auto& calls = lanes_[1].calls;
  const std::size_t sent = lanes_[1].sent ? 1 : 0;
  for (std::size_t i = sent; i < calls.size(); ++i) {
    if (!calls[i].effect) return;  // one waits
  }
  calls.emplace_back();
}

void SimNode::serve_calls() {
  for (Lane& lane : lanes_) {
    if (lane.sent && !lane.calls.front().performed && cluster_.clock.wall_ms() >= lane.calls.front().at_ms) {
      perform(lane.calls.front());
    }
  }
}

void SimNode::perform(Call& call) {
  call.performed = true;
  if (call.effect) return perform_at_service(call, *call.effect);
  auto view = std::make_shared<Result<CoordinationView>>(coordination_->view());
  call.answer = [this, view, sent_ns = call.sent_ns] {
    if (!*view) {
      view_due_ns_ = std::min(view_due_ns_, clock_.monotonic_ns() + view_retry_ns);
      return;
    }
    for (const Ownership& owner : (*view)->owners) {
      Owner& known = owners_[owner.shard];
      if (owner.epoch > known.epoch) known = {owner.node, owner.epoch};
    }
    for (const auto& [shard, gateway] : gateways_) connect(shard);
    election_->set_view(sent_ns, **view);
  };
}

void SimNode::perform_at_service(Call& call, const election::Effect& effect) {
  using namespace election;
  const std::int64_t sent_ns = call.sent_ns;
  if (const auto* start = std::get_if<StartLease>(&effect)) {
    const auto lease = coordination_->start_lease(start->ttl_s, presence(start->takes_shards));
    call.answer = [this, attempt = start->attempt, sent_ns, lease] { election_->lease_started(attempt, sent_ns, lease); };
  } else if (const auto* keep = std::get_if<KeepAlive>(&effect)) {
    const auto kept = coordination_->keep_alive(keep->lease);
    call.answer = [this, lease = keep->lease, sent_ns, kept] { election_->kept_alive(lease, sent_ns, kept); };
  } else if (const auto* end = std::get_if<EndLease>(&effect)) {
    static_cast<void>(coordination_->end_lease(end->lease));  // else it expires
    call.answer = [] {};
  } else if (const auto* announce = std::get_if<Announce>(&effect)) {
    const auto told = coordination_->update(announce->lease, presence(announce->takes_shards));
    call.answer = [this, takes = announce->takes_shards, told] { election_->announced(takes, told); };
  } else if (const auto* claim = std::get_if<Claim>(&effect)) {
    const auto epoch = coordination_->claim(claim->shard, claim->lease, presence(true));
    call.answer = [this, claim = *claim, epoch] { election_->claimed(claim.shard, claim.lease, epoch); };
  } else {
    const Release release = std::get<Release>(effect);
    const auto done = coordination_->release(release.shard, release.epoch);
    call.answer = [this, release, done] { election_->released(release.shard, release.epoch, done); };
  }
}

void SimNode::take_answers() {
  for (Lane& lane : lanes_) {
    if (!lane.sent || !lane.calls.front().performed || cluster_.clock.wall_ms() < lane.calls.front().answer_ms) continue;
    const auto answer = std::move(lane.calls.front().answer);
    lane.calls.pop_front();
    lane.sent = false;
    answer();
  }
}

// ---- the election

void SimNode::run_election() {
  election_->tick();
  const auto effects = election_->take_effects();
  deadline_ns_ = election_->lead_deadline_ns();
  for (const election::Effect& effect : effects) perform(effect);
  if (clock_.monotonic_ns() >= view_due_ns_) {
    view_due_ns_ = clock_.monotonic_ns() + view_interval_ns;
    view_wanted_ = true;
  }
}

void SimNode::perform(const election::Effect& effect) {
  using namespace election;
  cluster_.trace.mix(effect.index());
  if (const auto* followed = std::get_if<Follow>(&effect)) return follow(followed->shard);
  if (const auto* drop = std::get_if<Drop>(&effect)) {
    if (drop->shard != control_shard) hosts_.erase(drop->shard);
    return;
  }
  if (const auto* catch_up = std::get_if<CatchUp>(&effect)) {
    if (const auto at = hosts_.find(catch_up->shard); at != hosts_.end()) at->second->catch_up(catch_up->epoch);
    else election_->failed(catch_up->shard, catch_up->epoch);
    return;
  }
  if (const auto* lead = std::get_if<Lead>(&effect)) {
    if (const auto at = hosts_.find(lead->shard); at != hosts_.end()) at->second->lead(lead->epoch);
    else election_->failed(lead->shard, lead->epoch);
    return;
  }
  if (const auto* down = std::get_if<StepDown>(&effect)) {
    cluster_.trace.note(name + " gives up " + name_of_shard(down->shard) + ": " + std::string(name_of(down->why)));
    if (const auto at = hosts_.find(down->shard); at != hosts_.end()) at->second->step_down(down->epoch);
    else election_->stepped_down(down->shard, down->epoch);
    return;
  }
  if (const auto* tell = std::get_if<Tell>(&effect)) return send(tell->node, {tell->shard, 0, shard::ShardFree{}});
  if (std::holds_alternative<LookAtView>(effect)) view_wanted_ = true;
  else if (std::holds_alternative<Drained>(effect)) drained_ = true;
  else if (std::holds_alternative<Stopped>(effect)) stopped_ = true;
  else {
    Call call;
    call.effect = effect;
    lanes_[is_of_lease(effect) ? 0 : 1].calls.push_back(std::move(call));
  }
}

void SimNode::follow(ShardId shard) {
  if (hosts_.contains(shard)) return;
  SimHostPorts ports;
  ports.send = [this](const std::string& to, const shard::Message& message) { send(to, message); };
  ports.appended = [this](ShardId appended, std::string_view batch) {
    const shard::Message message{appended, 0, shard::AppendedBatch{std::string(batch)}};
    for (const std::string& peer : election_->peers_of(appended)) send(peer, message);
  };
  ports.note = [this](const std::string& what) { cluster_.trace.note(name + " " + what); };
  ports.send_to_shard = [this](ShardId to, const shard::Message& message) {
    if (const auto owner = owners_.find(to); owner != owners_.end()) send(owner->second.node, message);
  };
  const auto shards = static_cast<ShardId>(cluster_.money.size());
  hosts_[shard] = std::make_unique<SimHost>(
      shard, name, incarnation_, clock_, coordination_->log(shard), disks_[shard], deadline_ns_, *election_, shards,
      shard < shards ? cluster_.money[shard] : ShardMoney(), std::move(ports));
}

// ---- a step

void SimNode::step(bool may_begin) {
  if (leaving_ != Leaving::no && !paused_) leave();
  if (!is_up() || paused_) return;
  // Threads wake in any order.
  const bool election_first = cluster_.random.below(2) == 0;
  take_answers();
  if (election_first) run_election();
  for (const auto& [from, message] : std::exchange(inbox_, {})) on_message(from, message);
  for (auto& [shard, host] : hosts_) {
    host->step();
    if (!host->broken.empty()) broken = name_of_shard(shard) + ": " + host->broken;
  }
  run_election();
  begin_calls();
  if (clock_.monotonic_ns() >= gossip_due_ns_) {
    gossip_due_ns_ = clock_.monotonic_ns() + gossip_interval_ns;
    gossip();
  }
  // A holder sends by the network; what is for this node's own owner comes back by it at once.
  for (auto& [shard, gateway] : gateways_) {
    gateway->run_lanes(may_begin);
    gateway->run_shard(cluster_.network);
    if (!gateway->broken.empty()) broken = name_of_shard(shard) + ": " + gateway->broken;
  }
}

bool SimNode::is_at_rest() const {
  if (!is_up() || leaving_ != Leaving::no) return false;
  return std::all_of(gateways_.begin(), gateways_.end(), [](const auto& entry) { return entry.second->is_idle(); }) &&
         std::all_of(hosts_.begin(), hosts_.end(), [](const auto& entry) { return entry.second->is_at_rest(); });
}

}  // namespace outlast::cluster::simulation
