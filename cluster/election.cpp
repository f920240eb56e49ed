#include "cluster/election.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <type_traits>

#include "cluster/placement.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using namespace election;

constexpr std::uint32_t retry_ms = 200;

std::int64_t ns_of(std::uint32_t ms) { return std::int64_t{ms} * 1'000'000; }

}  // namespace

Election::Election(ElectionOptions options, const Clock& clock, std::uint64_t seed)
    : options_(std::move(options)), clock_(clock), random_(seed), keeper_(options_.ttl_s, clock, random_.next()) {
  check(!options_.node.empty(), "a node has a name");
  check(options_.shards >= 1 && options_.shards <= shards_max, "the number of shards is in its limits");
  check(options_.replicas >= 1, "a shard has a replica");
  check(options_.hang_ms_max >= options_.ttl_s * 1'000, "a pause within the TTL is no hang");
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

// ---- inputs

void Election::lease_started(std::uint64_t attempt, std::int64_t sent_ns, const Result<LeaseId>& lease) {
  keeper_.started(attempt, sent_ns, lease);
  dirty_ = true;
}

void Election::kept_alive(LeaseId lease, std::int64_t sent_ns, const Result<void>& result) {
  keeper_.kept_alive(lease, sent_ns, result);
  dirty_ = true;
}

void Election::announced(bool takes_shards, const Result<void>& result) {
  announcing_ = false;
  dirty_ = true;
  if (result) announced_ = takes_shards;
  else announce_due_ns_ = clock_.monotonic_ns() + jitter_ns(retry_ms);
}

void Election::claimed(ShardId id, LeaseId lease, const Result<std::uint64_t>& epoch) {
  check(claims_ > 0, "a claim is answered once");
  --claims_;
  dirty_ = true;
  Shard& shard = at(id);
  const bool expected = shard.stage == Stage::claiming && lease_ == lease;
  if (epoch) {
    // Its lease is not ours any more, or may not be: whoever is next need not wait for its end.
    if (!expected || keeper_.held() != lease) {
      if (expected) enter(shard, Stage::idle);
      effects_.emplace_back(Release{id, *epoch});
      return;
    }
    shard.epoch = *epoch;
    shard.claimed_ns = shard.progress_ns = clock_.monotonic_ns();
    shard.caught_up = false;
    enter(shard, Stage::catching_up);
    effects_.emplace_back(CatchUp{id, *epoch});
    return;
  }
  view_wanted_ = true;
  if (!expected) return;
  // After `unknown` the view tells: an ownership that nobody here knows of is released, and the shard claimed anew.
  enter(shard, Stage::idle);
  shard.not_before_ns = clock_.monotonic_ns() + jitter_ns(retry_ms);
  if (is(epoch.error(), AgreementError::lease_lost)) {
    keeper_.kept_alive(lease, clock_.monotonic_ns(), fail(AgreementError::lease_lost, "a claim found no lease"));
  }
}

void Election::released(ShardId id, std::uint64_t epoch, const Result<void>& result) {
  dirty_ = true;
  Shard& shard = at(id);
  const std::int64_t now_ns = clock_.monotonic_ns();
  const bool expected = shard.stage == Stage::releasing && shard.epoch == epoch;
  if (expected) shard.release_in_flight = false;
  if (!result) {
    if (expected) shard.next_release_ns = now_ns + jitter_ns(retry_ms);
    return;
  }
  view_wanted_ = true;
  if (shard.owner && shard.owner->epoch <= epoch) shard.owner.reset();
  if (!shard.owner) shard.vacant_since_ns = now_ns;
  if (!expected) return;
  enter(shard, Stage::idle);
  if (shard.successor.empty()) return;
  shard.released_ns = now_ns;
  effects_.emplace_back(Tell{shard.successor, id});
}

void Election::set_view(std::int64_t sent_ns, const CoordinationView& view) {
  if (view_known_ && view.revision < view_revision_) return;
  view_revision_ = view.revision;
  see_nodes(view.nodes);
  see_owners(sent_ns, view.owners);
  view_known_ = true;
  dirty_ = true;
}

void Election::see_nodes(const std::vector<Presence>& presences) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  std::map<std::string_view, const Presence*> by_name;
  for (const Presence& presence : presences) {
    by_name.emplace(presence.node, &presence);
    if (nodes_.try_emplace(presence.node, Node{.hash = placement_hash(presence.node), .away_since_ns = now_ns}).second) {
      placement_due_ns_ = 0;
    }
  }
  for (auto node = nodes_.begin(); node != nodes_.end();) {
    const auto presence = by_name.find(node->first);
    Node& known = node->second;
    known.live = presence != by_name.end();
    bool takes = known.live && has_role(presence->second->roles, ledger_role);
    if (known.live) known.incarnation = presence->second->incarnation;
    // Another run of this node may still have its presence there.
    if (node->first == options_.node) takes = takes && known.incarnation == options_.incarnation && !draining_;
    if (takes != known.takes) {
      known.takes = takes;
      if (!takes) known.away_since_ns = now_ns;
      placement_due_ns_ = 0;
    }
    node = known.live || known.state ? std::next(node) : nodes_.erase(node);
  }
}

void Election::see_owners(std::int64_t sent_ns, const std::vector<Ownership>& owners) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  std::map<ShardId, const Ownership*> by_shard;
  for (const Ownership& owner : owners) by_shard.emplace(owner.shard, &owner);
  for (Shard& shard : shards_) {
    const auto owner = by_shard.find(shard.id);
    if (owner != by_shard.end()) {
      shard.owner = *owner->second;
    } else {
      if (shard.owner || !view_known_) shard.vacant_since_ns = now_ns;
      shard.owner.reset();
    }
    shard.owner_seen_ns = std::max(shard.owner_seen_ns, sent_ns);
  }
}

void Election::set_members(const std::vector<Member>& members) {
  const std::int64_t now_ns = clock_.monotonic_ns();
  for (auto& [name, node] : nodes_) node.state.reset();
  for (const Member& member : members) {
    Node& node =
        nodes_.try_emplace(member.name, Node{.hash = placement_hash(member.name), .away_since_ns = now_ns}).first->second;
    node.state = member.state;
    node.ledger = has_role(member.roles, ledger_role);
  }
  for (Shard& shard : shards_) {
    std::erase_if(shard.reports, [this](const auto& report) {
      const auto node = nodes_.find(report.first);
      return node == nodes_.end() || !node->second.state;
    });
  }
  members_known_ = true;
  placement_due_ns_ = 0;
  dirty_ = true;
}

void Election::own_progress(ShardId id, std::uint64_t applied, std::uint64_t tail) {
  Shard& shard = at(id);
  if (!shard.following) return;
  if (!shard.read_once) dirty_ = true;
  shard.read_once = true;
  shard.applied = applied;
  shard.tail = std::max({shard.tail, applied, tail});
  shard.progress_ns = clock_.monotonic_ns();
  dirty_ = dirty_ || shard.stage == Stage::idle;
}

void Election::caught_up(ShardId id, std::uint64_t epoch) {
  Shard& shard = at(id);
  if (shard.stage != Stage::catching_up || shard.epoch != epoch) return;
  shard.caught_up = true;
  dirty_ = true;
}

void Election::stepped_down(ShardId id, std::uint64_t epoch) {
  Shard& shard = at(id);
  if (shard.stage == Stage::stepping_down && shard.epoch == epoch) after_step_down(shard);
}

void Election::failed(ShardId id, std::uint64_t epoch) {
  Shard& shard = at(id);
  if (shard.epoch != epoch) return;
  if (shard.stage != Stage::catching_up && shard.stage != Stage::leading && shard.stage != Stage::stepping_down) return;
  if (shard.stage != Stage::stepping_down) shard.release_after = true;
  hold_off(shard);
  after_step_down(shard);
}

void Election::peer_progress(const std::string& node, const Incarnation& incarnation, const ShardProgress& progress) {
  if (progress.shard != control_shard && progress.shard >= options_.shards) return;
  const auto known = nodes_.find(node);
  if (known == nodes_.end() || !known->second.state || node == options_.node) return;
  Shard& shard = at(progress.shard);
  const std::uint64_t lag = shard.applied > progress.applied ? shard.applied - progress.applied : 0;
  shard.reports[node] = PeerReport{incarnation, progress.applied, lag, progress.takes, clock_.monotonic_ns()};
  shard.tail = std::max(shard.tail, progress.applied);
  dirty_ = dirty_ || shard.stage == Stage::leading;
}

void Election::peer_suspected(const std::string& node, bool suspected) {
  const auto known = nodes_.find(node);
  if (known == nodes_.end()) return;
  known->second.suspected = suspected;
  dirty_ = true;
}

void Election::told(ShardId id) {
  if (id != control_shard && id >= options_.shards) return;
  at(id).invited_until_ns = clock_.monotonic_ns() + ns_of(options_.handover_claim_ms);
  view_wanted_ = true;
  dirty_ = true;
}

void Election::drain() {
  draining_ = true;
  if (const auto me = nodes_.find(options_.node); me != nodes_.end() && me->second.takes) {
    me->second.takes = false;
    me->second.away_since_ns = clock_.monotonic_ns();
  }
  placement_due_ns_ = 0;
  dirty_ = true;
}

void Election::stop() {
  stopping_ = true;
  dirty_ = true;
}

// ---- what is due

void Election::tick() {
  now_ns_ = clock_.monotonic_ns();
  wake_ns_ = std::numeric_limits<std::int64_t>::max();
  dirty_ = false;
  // Before anything else: what was owned by a lease that has ended is not owned.
  follow_lease();
  follow_own_state();
  place();
  for (Shard& shard : shards_) evaluate(shard);
  finish();
  keep_lease();
  if (std::exchange(view_wanted_, false) && !stopped_) effects_.emplace_back(LookAtView{});
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
  if (!shard.order.empty()) return;
  // All its replicas are away: the best of the others reads the log, rather than nobody.
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
  if (stopping_ && !stopped_ && all_idle()) {
    stopped_ = true;
    effects_.emplace_back(Stopped{});
  }
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
  const bool takes = takes_part() && !gives_away();
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
  for (const std::string& name : shard.replicas) {
    const auto node = nodes_.find(name);
    if (name == options_.node || node == nodes_.end() || !node->second.live) continue;
    const auto report = shard.reports.find(name);
    if (report == shard.reports.end() || report->second.incarnation != node->second.incarnation) return std::nullopt;
    lowest = std::min(lowest.value_or(report->second.applied), report->second.applied);
  }
  return lowest;
}

std::vector<std::string> Election::peers_of(ShardId id) const {
  const Shard& shard = at(id);
  std::vector<std::string> peers = shard.replicas;
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
