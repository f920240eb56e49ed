#include "cluster/election.hpp"

#include <algorithm>
#include <limits>
#include <type_traits>

#include "cluster/durations.hpp"
#include "cluster/placement.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using namespace election;

}  // namespace

Election::Election(ElectionOptions options, const Clock& clock, std::uint64_t seed)
    : options_(std::move(options)), clock_(clock), random_(seed), keeper_(options_.ttl_s, clock, random_.next()) {
  check(!options_.node.empty(), "a node has a name");
  check(options_.shards >= 1 && options_.shards <= shards_max, "the number of shards is in its limits");
  check(options_.replicas >= 1, "a shard has a replica");
  shards_.resize(std::size_t{options_.shards} + 1);
  for (std::size_t i = 0; i < options_.shards; ++i) shards_[i].id = static_cast<ShardId>(i);
  shards_.back().id = control_shard;
}

// ---- what it knows

Election::Shard& Election::at(ShardId shard) {
  check(shard == control_shard || shard < options_.shards, "the shard exists", name_of_shard(shard));
  return shard == control_shard ? shards_.back() : shards_[shard];
}
const Election::Shard& Election::at(ShardId shard) const { return const_cast<Election*>(this)->at(shard); }

const Election::Node* Election::self() const {
  const auto found = nodes_.find(options_.node);
  return found == nodes_.end() ? nullptr : &found->second;
}

bool Election::takes_part() const {
  if (stopping_ || !members_known_) return false;
  const Node* me = self();
  return me != nullptr && (me->state == NodeState::active || me->state == NodeState::draining);
}

bool Election::gives_away() const {
  const Node* me = self();
  return draining_ || (me != nullptr && me->state == NodeState::draining);
}

bool Election::is_mine(const std::optional<Ownership>& owner) const {
  return owner && owner->node == options_.node && owner->incarnation == options_.incarnation;
}

// Half to all of it.
std::int64_t Election::jitter_ns(std::uint32_t ms) {
  const std::int64_t half_ns = ns_of(ms) / 2;
  return half_ns + static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(half_ns + 1)));
}

void Election::wake_at(std::int64_t time_ns) { wake_ns_ = std::min(wake_ns_, time_ns); }

// ---- what is due

void Election::tick() {
  now_ns_ = clock_.monotonic_ns();
  wake_ns_ = std::numeric_limits<std::int64_t>::max();
  dirty_ = false;
  if (stopped_) return;
  // Before anything else: what was owned by a lease that has ended is not owned.
  follow_lease();
  follow_own_state();
  place();
  for (Shard& shard : shards_) evaluate(shard);
  finish();
  keep_lease();
  if (std::exchange(view_wanted_, false) && !stopping_) effects_.emplace_back(LookAtView{});
  // Behind the lease's end: whoever hears of it may go.
  if (stopping_ && !stopped_ && all_idle()) {
    stopped_ = true;
    effects_.emplace_back(Stopped{});
  }
}

std::int64_t Election::next_wake_ns() const { return dirty_ ? clock_.monotonic_ns() : wake_ns_; }

std::vector<Effect> Election::take_effects() {
  if (lease_ && keeper_.held() != lease_) {
    std::erase_if(effects_, [this](const Effect& effect) {
      if (std::holds_alternative<Claim>(effect)) --claims_;
      if (std::holds_alternative<Announce>(effect)) announcing_ = false;
      return std::holds_alternative<Claim>(effect) || std::holds_alternative<Announce>(effect) ||
             std::holds_alternative<CatchUp>(effect) || std::holds_alternative<Lead>(effect);
    });
    tick();
  }
  return std::exchange(effects_, {});
}

void Election::follow_lease() {
  const std::optional<LeaseId> held = keeper_.held();
  if (lease_ && lease_ != held) {
    lease_.reset();
    announced_.reset();
    step_down_all(Why::lease_lost);
  }
  if (!lease_ && held) {
    lease_ = held;
    announced_ = started_taking_;
    view_wanted_ = true;
  }
  const auto me = nodes_.find(options_.node);
  if (me == nodes_.end() || me->second.takes == (lease_ && !draining_)) return;
  me->second.takes = lease_ && !draining_;
  if (!me->second.takes) me->second.away_since_ns = now_ns_;
  placement_due_ns_ = 0;
}

void Election::follow_own_state() {
  if (takes_part()) keeper_.start();
  else if (keeper_.wanted()) step_down_all(stopping_ ? Why::stopped : Why::removed);
}

void Election::keep_lease() {
  for (const LeaseEffect& due : keeper_.tick()) {
    std::visit(
        [this](auto effect) {
          if constexpr (std::is_same_v<decltype(effect), StartLease>) {
            effect.takes_shards = started_taking_ = !draining_;
          }
          effects_.emplace_back(effect);
        },
        due);
  }
  wake_at(keeper_.next_wake_ns());
  if (!lease_ || !takes_part() || announcing_ || announced_ == !draining_) return;
  if (now_ns_ < announce_due_ns_) return wake_at(announce_due_ns_);
  announcing_ = true;
  effects_.emplace_back(Announce{*lease_, !draining_});
}

// Who replicates each shard, when nodes came or went, or one has been away for too long.
void Election::place() {
  if (!view_known_) return;  // who lives is not known
  if (now_ns_ < placement_due_ns_) return wake_at(placement_due_ns_);
  placement_due_ns_ = std::numeric_limits<std::int64_t>::max();
  std::vector<const Candidate*> present;
  for (const Candidate& candidate : nodes_) {
    const Node& node = candidate.second;
    if (node.state != NodeState::active || !node.ledger) continue;
    if (!node.takes) {
      // A node that restarts finds its shards as it left them; nobody copies them meanwhile.
      const std::int64_t gone_ns = node.away_since_ns + ns_of(options_.replace_after_ms);
      if (now_ns_ >= gone_ns) continue;
      placement_due_ns_ = std::min(placement_due_ns_, gone_ns);
    }
    present.push_back(&candidate);
  }
  for (Shard& shard : shards_) place(shard, present);
  wake_at(placement_due_ns_);
}

void Election::place(Shard& shard, const std::vector<const Candidate*>& present) {
  std::vector<std::pair<std::uint64_t, const Candidate*>> ranked;
  ranked.reserve(present.size());
  for (const Candidate* candidate : present) {
    ranked.emplace_back(placement_weight(shard.id, candidate->second.hash), candidate);
  }
  const auto better = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->first < b.second->first;
  };
  const std::size_t count = shard.id == control_shard ? ranked.size() : std::min(options_.replicas, ranked.size());
  std::partial_sort(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(count), ranked.end(), better);
  shard.replicas.clear();
  shard.order.clear();
  for (std::size_t i = 0; i < count; ++i) {
    const auto& [name, node] = *ranked[i].second;
    shard.replicas.push_back(name);
    if (node.takes) shard.order.push_back(name);
  }
  if (!shard.order.empty()) {
    shard.abandoned_since_ns = 0;
    return;
  }
  // All its replicas are away. When a cluster starts they only come a little later; otherwise, after a time, the best of
  // the others reads the log, rather than nobody.
  if (shard.abandoned_since_ns == 0) shard.abandoned_since_ns = now_ns_;
  const std::int64_t due_ns = shard.abandoned_since_ns + ns_of(options_.abandoned_ms);
  if (now_ns_ < due_ns) {
    placement_due_ns_ = std::min(placement_due_ns_, due_ns);
    return;
  }
  std::erase_if(ranked, [](const auto& entry) { return !entry.second->second.takes; });
  const auto best = std::min_element(ranked.begin(), ranked.end(), better);
  if (best == ranked.end()) return;
  shard.replicas.push_back(best->second->first);
  shard.order.push_back(best->second->first);
}

bool Election::all_idle() const {
  return std::all_of(shards_.begin(), shards_.end(), [](const Shard& shard) { return shard.stage == Stage::idle; });
}

void Election::finish() {
  if (!takes_part() && keeper_.wanted() && all_idle()) keeper_.stop();
  if (!gives_away()) drained_ = false;
  if (!gives_away() || drained_ || !takes_part() || !view_known_ || !all_idle()) return;
  for (const Shard& shard : shards_) {
    if (!shard.successor.empty() || is_mine(shard.owner) || (shard.following && !shard.owner)) return;
  }
  drained_ = true;
  effects_.emplace_back(Drained{});
}

// ---- what others ask

std::optional<std::uint64_t> Election::leads(ShardId id) const {
  const Shard& shard = at(id);
  if (shard.stage != Stage::leading || !lease_ || keeper_.held() != lease_) return std::nullopt;
  return shard.epoch;
}

std::int64_t Election::lead_deadline_ns() const { return lease_ ? keeper_.deadline_ns() : 0; }

std::vector<ShardProgress> Election::progress_report() const {
  const std::int64_t now_ns = clock_.monotonic_ns();
  // Without a lease it could not claim what it is given.
  const bool takes = takes_part() && !gives_away() && lease_ && keeper_.held() == lease_;
  std::vector<ShardProgress> report;
  for (const Shard& shard : shards_) {
    if (shard.following && shard.read_once) {
      report.push_back({shard.id, shard.applied, takes && now_ns >= shard.failed_until_ns});
    }
  }
  return report;
}

std::optional<std::uint64_t> Election::lowest_applied(ShardId id) const {
  const Shard& shard = at(id);
  std::optional<std::uint64_t> lowest;
  if (shard.following && shard.read_once) lowest = shard.applied;
  for (const auto& [name, node] : nodes_) {
    const bool replicates = id == control_shard || std::find(shard.replicas.begin(), shard.replicas.end(), name) !=
                                                       shard.replicas.end();
    if (name == options_.node || !node.state || !node.live || !replicates) continue;
    const auto report = shard.reports.find(name);
    if (report == shard.reports.end() || report->second.incarnation != node.incarnation) return std::nullopt;
    lowest = std::min(lowest.value_or(report->second.applied), report->second.applied);
  }
  return lowest;
}

std::vector<std::string> Election::peers_of(ShardId id) const {
  const Shard& shard = at(id);
  const std::size_t count = std::min(shard.replicas.size(), options_.replicas + 1);
  std::vector<std::string> peers(shard.replicas.begin(), shard.replicas.begin() + static_cast<std::ptrdiff_t>(count));
  if (shard.owner && std::find(peers.begin(), peers.end(), shard.owner->node) == peers.end()) {
    peers.push_back(shard.owner->node);
  }
  std::erase(peers, options_.node);
  return peers;
}

std::vector<ShardStatus> Election::status() const {
  std::vector<ShardStatus> all;
  all.reserve(shards_.size());
  for (const Shard& shard : shards_) {
    ShardStatus status{shard.id, shard.stage, shard.following, 0, shard.owner, shard.replicas, shard.successor,
                       shard.applied, shard.tail};
    if (shard.stage != Stage::idle && shard.stage != Stage::claiming) status.epoch = shard.epoch;
    all.push_back(std::move(status));
  }
  return all;
}

}  // namespace outlast::cluster
