#include "tests/cluster/election_world.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "cluster/placement.hpp"
#include "core/check.hpp"

namespace outlast::cluster::testing {
namespace {

constexpr std::int64_t ns_per_ms = 1'000'000;
constexpr std::int64_t report_ms = 1'000;
constexpr std::int64_t view_ms = 4'000;       // hints may be lost
constexpr std::uint64_t catch_up_per_s = 5'000;

using Answer = std::function<void(Election&)>;

}  // namespace

World::World(WorldOptions options) : options_(std::move(options)), random_(options_.seed) {
  for (const ShardId shard : shards()) tails_[shard] = 1 + random_.below(20'000);
}

std::vector<ShardId> World::shards() const {
  std::vector<ShardId> all;
  for (ShardId shard = 0; shard < options_.election.shards; ++shard) all.push_back(shard);
  all.push_back(control_shard);
  return all;
}

std::vector<std::string> World::names() const {
  std::vector<std::string> all;
  for (const auto& [name, node] : nodes_) all.push_back(name);
  return all;
}

// ---- time and messages

void World::at(std::int64_t time_ns, std::function<void()> event) { events_.emplace(time_ns, std::move(event)); }

std::int64_t World::delay_ns() {
  return static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(options_.delay_us_max) * 1'000)) + 50'000;
}

void World::run_ms(std::int64_t ms) {
  const std::int64_t end_ns = now_ns_ + ms * ns_per_ms;
  while (!events_.empty() && events_.begin()->first <= end_ns) {
    now_ns_ = std::max(now_ns_, events_.begin()->first);
    const auto event = std::move(events_.begin()->second);
    events_.erase(events_.begin());
    ++counts_.events;
    event();
  }
  now_ns_ = end_ns;
}

bool World::run_until(std::int64_t ms, const std::function<bool()>& done) {
  for (std::int64_t passed_ms = 0; passed_ms < ms; passed_ms += 10) {
    if (done()) return true;
    run_ms(10);
  }
  return done();
}

// What reaches a paused process waits for it; what reaches another run of it is lost.
void World::to_node(const std::string& name, std::int64_t delay_ns, Answer input) {
  at(now_ns_ + delay_ns, [this, name, run = nodes_.at(name).run, input = std::move(input)] {
    SimNode& node = nodes_.at(name);
    if (node.run != run || !node.election) return;
    if (node.paused) {
      node.inbox.push_back(input);
      return;
    }
    input(*node.election);
    pump(node);
  });
}

// ---- nodes

void World::add(const std::string& name, std::vector<std::string> roles) {
  SimNode& node = nodes_[name];
  node.name = name;
  node.roles = std::move(roles);
  const double rate = 1 + (random_.fraction() * 2 - 1) * options_.drift_max;
  node.clock = std::make_unique<DriftingClock>(
      now_ns_, static_cast<std::int64_t>(random_.below(1'000'000)) * ns_per_ms, rate);
  tell_members();
  start(name);
}

std::vector<Member> World::members() const {
  std::vector<Member> all;
  for (const auto& [name, node] : nodes_) all.push_back({name, node.state, node.roles});
  return all;
}

void World::tell_members() {
  // The control log has them in order, however late.
  for (auto& [name, node] : nodes_) {
    if (node.election) to_node(name, delay_ns(), [this](Election& election) { election.set_members(members()); });
  }
}

void World::start(const std::string& name) {
  SimNode& node = nodes_.at(name);
  check(node.election == nullptr, "a node that runs is not started");
  ++node.run;
  ++last_incarnation_;
  for (std::size_t i = 0; i < 4; ++i) {
    node.incarnation.bytes[i] = static_cast<std::uint8_t>(last_incarnation_ >> (24 - 8 * i));  // they sort by time
  }
  ElectionOptions options = options_.election;
  options.node = name;
  options.incarnation = node.incarnation;
  node.election = std::make_unique<Election>(options, *node.clock, random_.next());
  node.paused = node.leaves = node.drained = node.stopped = node.view_queued = false;
  for (auto& lane : node.lanes) lane.clear();
  node.busy[0] = node.busy[1] = false;
  node.inbox.clear();
  node.led.clear();
  for (auto& [shard, replica] : node.replicas) replica.following = replica.read = replica.hangs = false;
  node.election->set_members(members());
  pump(node);
  at(now_ns_ + static_cast<std::int64_t>(random_.below(report_ms)) * ns_per_ms,
     [this, name, run = node.run] { every_second(name, run); });
}

void World::crash(const std::string& name) {
  SimNode& node = nodes_.at(name);
  ++node.run;
  node.election.reset();
}

void World::pause(const std::string& name, bool paused) {
  SimNode& node = nodes_.at(name);
  node.paused = paused;
  if (paused || !node.election) return;
  for (const auto& input : std::exchange(node.inbox, {})) input(*node.election);
  pump(node);
}

void World::cut(const std::string& name, bool is_cut) { nodes_.at(name).cut = is_cut; }

void World::part(const std::string& a, const std::string& b, bool parted) {
  const std::pair<std::string, std::string> pair = std::minmax(a, b);
  if (parted) parted_.insert(pair);
  else parted_.erase(pair);
  for (const auto& [self, other] : {std::pair(a, b), std::pair(b, a)}) {
    to_node(self, delay_ns(), [this, other = other, pair](Election& election) {
      election.peer_suspected(other, parted_.contains(pair));
    });
  }
}

void World::hang(const std::string& node, ShardId shard, bool hangs) { nodes_.at(node).replicas[shard].hangs = hangs; }

void World::fail_shard(const std::string& name, ShardId shard) {
  SimNode& node = nodes_.at(name);
  if (!node.election || !node.led.contains(shard)) return;
  const std::uint64_t epoch = node.led.at(shard);
  node.led.erase(shard);
  to_node(name, 0, [shard, epoch](Election& election) { election.failed(shard, epoch); });
}

void World::drain(const std::string& node) {
  nodes_.at(node).leaves = true;
  to_node(node, 0, [](Election& election) { election.drain(); });
}

void World::stop(const std::string& node) {
  nodes_.at(node).leaves = true;
  to_node(node, 0, [](Election& election) { election.stop(); });
}

void World::set_state(const std::string& node, NodeState state) {
  nodes_.at(node).state = state;
  tell_members();
}

void World::heal() {
  options_.late_share = 0;
  for (auto& [name, node] : nodes_) {
    node.cut = false;
    for (auto& [shard, replica] : node.replicas) replica.hangs = false;
    if (!node.election) start(name);
    else if (node.leaves) {
      crash(name);
      start(name);
    }
    if (node.paused) pause(name, false);
  }
  for (const auto& [a, b] : std::set(parted_)) part(a, b, false);
}

void World::pump(const std::string& node) { pump(nodes_.at(node)); }

void World::pump(SimNode& node) {
  node.election->tick();
  for (const election::Effect& effect : node.election->take_effects()) perform(node, effect);
  for (const auto& [shard, epoch] : node.led) check_beliefs(node, shard);
  const std::int64_t wake_ns = node.election->next_wake_ns();
  if (wake_ns == std::numeric_limits<std::int64_t>::max()) return;
  at(std::max(node.clock->world_ns_of(wake_ns), now_ns_),
     [this, name = node.name, run = node.run, wake = ++node.wake] {
       SimNode& woken = nodes_.at(name);
       if (woken.run == run && woken.wake == wake && woken.election && !woken.paused) pump(woken);
     });
}

// What the threads of shards do, and gossip.
void World::every_second(const std::string& name, std::uint64_t run) {
  SimNode& node = nodes_.at(name);
  if (node.run != run) return;
  at(now_ns_ + report_ms * ns_per_ms, [this, name, run] { every_second(name, run); });
  if (node.paused || node.stopped) return;
  for (auto& [shard, replica] : node.replicas) {
    if (!replica.following || replica.hangs) continue;
    const auto owned = owners_.find(shard);
    if (node.led.contains(shard) && owned != owners_.end() && owned->second.first.epoch == node.led.at(shard)) {
      tails_[shard] += random_.below(2'000);
      replica.applied = tails_[shard];
    }
    replica.applied = std::min(tails_[shard], replica.applied + catch_up_per_s);
    replica.read = replica.read || replica.applied == tails_[shard];
    if (replica.read) node.election->own_progress(shard, replica.applied, tails_[shard]);
  }
  gossip(node);
  if ((now_ns_ / (report_ms * ns_per_ms)) % (view_ms / report_ms) == 0) perform(node, election::LookAtView{});
  pump(node);
}

void World::gossip(SimNode& node) {
  for (const ShardProgress& progress : node.election->progress_report()) {
    for (const std::string& peer : node.election->peers_of(progress.shard)) {
      const auto found = nodes_.find(peer);
      if (found == nodes_.end() || !found->second.election || found->second.paused) continue;
      if (parted_.contains(std::minmax(node.name, peer))) continue;
      found->second.election->peer_progress(node.name, node.incarnation, progress);
    }
  }
}

Presence World::presence_of(const SimNode& node, bool takes_shards) const {
  Presence presence;
  presence.node = node.name;
  presence.incarnation = node.incarnation;
  presence.roles = node.roles;
  if (!takes_shards) std::erase(presence.roles, std::string(ledger_role));
  return presence;
}

// ---- effects

void World::perform(SimNode& node, const election::Effect& effect) {
  std::visit([this, &node](const auto& each) { perform(node, each); }, effect);
}

void World::perform(SimNode& node, const election::CatchUp& effect) {
  const ShardId shard = effect.shard;
  if (node.replicas[shard].hangs) return;
  to_node(node.name, static_cast<std::int64_t>(random_.below(100)) * ns_per_ms,
          [this, name = node.name, shard, epoch = effect.epoch](Election& election) {
            Replica& replica = nodes_.at(name).replicas[shard];
            replica.applied = tails_[shard];
            election.own_progress(shard, replica.applied, replica.applied);
            election.caught_up(shard, epoch);
          });
}

void World::perform(SimNode& node, const election::Lead& effect) {
  node.led[effect.shard] = effect.epoch;
  check_beliefs(node, effect.shard);
}

void World::perform(SimNode& node, const election::StepDown& effect) {
  node.led.erase(effect.shard);
  if (node.replicas[effect.shard].hangs) return;
  to_node(node.name, static_cast<std::int64_t>(random_.below(20)) * ns_per_ms,
          [effect](Election& election) { election.stepped_down(effect.shard, effect.epoch); });
}

void World::perform(SimNode& node, const election::Tell& effect) {
  const auto found = nodes_.find(effect.node);
  if (found == nodes_.end() || !found->second.election || parted_.contains(std::minmax(node.name, effect.node))) return;
  to_node(effect.node, delay_ns(), [shard = effect.shard](Election& election) { election.told(shard); });
}

void World::perform(SimNode& node, const election::Follow& effect) { node.replicas[effect.shard].following = true; }

void World::perform(SimNode& node, const election::Drop& effect) {
  Replica& replica = node.replicas[effect.shard];
  replica.following = replica.read = false;
}

void World::perform(SimNode& node, const election::Drained&) { node.drained = true; }
void World::perform(SimNode& node, const election::Stopped&) { node.stopped = true; }

// ---- what is asked of it

std::optional<Ownership> World::owner(ShardId shard) const {
  const auto found = owners_.find(shard);
  if (found == owners_.end()) return std::nullopt;
  return found->second.first;
}

std::string World::leader(ShardId shard) const {
  for (const auto& [name, node] : nodes_) {
    if (node.election && node.election->leads(shard)) return name;
  }
  return "";
}

std::string World::unsettled() const {
  std::vector<std::string> active;
  for (const auto& [name, node] : nodes_) {
    if (node.state == NodeState::active && has_role(node.roles, ledger_role)) active.push_back(name);
  }
  for (const ShardId shard : shards()) {
    const std::vector<std::string> wanted = replicas(shard, active, options_.election.replicas);
    if (leader(shard) != wanted.front()) {
      const auto owned = owner(shard);
      return name_of_shard(shard) + " is led by '" + leader(shard) + "', owned by '" + (owned ? owned->node : "") +
             "', and best placed at " + wanted.front();
    }
    for (const auto& [name, node] : nodes_) {
      const auto replica = node.replicas.find(shard);
      const bool follows = node.election && replica != node.replicas.end() && replica->second.following;
      const bool should = shard == control_shard || std::find(wanted.begin(), wanted.end(), name) != wanted.end();
      if (node.election && node.state == NodeState::active && follows != should) {
        return name_of_shard(shard) + (should ? " is not replicated by " : " is still replicated by ") + name;
      }
    }
  }
  return "";
}

World::Counts World::take_counts() { return std::exchange(counts_, {}); }

// Who believes to lead owns the shard, with that epoch; so no two believe it. Beliefs begin only where a node acts, and
// owners change only in own(): checking there is checking always.
void World::check_beliefs(const SimNode& node, ShardId shard) const {
  if (!node.election) return;
  const auto epoch = node.election->leads(shard);
  if (!epoch) return;
  const auto found = owners_.find(shard);
  const bool owns = found != owners_.end() && found->second.first.node == node.name &&
                    found->second.first.incarnation == node.incarnation && found->second.first.epoch == *epoch;
  check(owns, "whoever believes to lead a shard owns it",
        "seed " + std::to_string(options_.seed) + ", at " + std::to_string(now_ms()) + " ms, " + node.name + " and " +
            name_of_shard(shard));
}

}  // namespace outlast::cluster::testing
