// What an Election is told: it remembers, and tick() decides.
#include <algorithm>
#include <map>
#include <string_view>

#include "cluster/durations.hpp"
#include "cluster/election.hpp"
#include "cluster/placement.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using namespace election;

constexpr std::uint32_t retry_ms = 200;

}  // namespace

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
    const Node fresh{.hash = placement_hash(presence.node), .away_since_ns = now_ns};
    if (nodes_.try_emplace(presence.node, fresh).second) placement_due_ns_ = 0;
  }
  for (auto node = nodes_.begin(); node != nodes_.end();) {
    const auto presence = by_name.find(node->first);
    Node& known = node->second;
    known.live = presence != by_name.end();
    bool takes = known.live && has_role(presence->second->roles, ledger_role);
    if (known.live) known.incarnation = presence->second->incarnation;
    // Of itself it knows better: its presence may be that of an earlier run, or not be there yet.
    if (node->first == options_.node) takes = lease_ && !draining_;
    if (takes != known.takes) {
      known.takes = takes;
      if (!takes) known.away_since_ns = now_ns;
      placement_due_ns_ = 0;
    }
    node = known.live || known.state ? std::next(node) : nodes_.erase(node);
  }
  // A late put of an earlier lease may have replaced this node's presence, and taken it along when that lease ended. A
  // later process of the same name is left alone: two that announce themselves in turn would help nobody.
  const Node* me = self();
  if (me == nullptr || !me->live || me->incarnation < options_.incarnation) announced_.reset();
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
    const Node fresh{.hash = placement_hash(member.name), .away_since_ns = now_ns};
    Node& node = nodes_.try_emplace(member.name, fresh).first->second;
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
  dirty_ = true;
}

void Election::stop() {
  stopping_ = true;
  dirty_ = true;
}

}  // namespace outlast::cluster
