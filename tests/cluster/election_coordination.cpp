// The coordination of an election's world: leases, presences and owners, and how calls to it go wrong.
#include <algorithm>
#include <utility>

#include "core/check.hpp"
#include "tests/cluster/election_world.hpp"

namespace outlast::cluster::testing {
namespace {

using Answer = std::function<void(Election&)>;

Failure error_of(AgreementError error) { return fail(error, "as the world has it"); }

}  // namespace

// ---- calls: each goes through, or is lost before or after it happened, or happens long after its caller gave up

void World::call(SimNode& node, int lane, Call call) {
  node.lanes[lane].push_back(std::move(call));
  if (!node.busy[lane]) next_call(node, lane);
}

void World::next_call(SimNode& node, int lane) {
  if (node.lanes[lane].empty()) {
    node.busy[lane] = false;
    return;
  }
  node.busy[lane] = true;
  const auto call = std::make_shared<Call>(std::move(node.lanes[lane].front()));
  node.lanes[lane].pop_front();
  if (call->begin) call->begin();
  const std::string name = node.name;
  const auto answer = [this, name, lane](std::int64_t delay_ns, Answer input) {
    to_node(name, delay_ns, [this, name, lane, input = std::move(input)](Election& election) {
      input(election);
      next_call(nodes_.at(name), lane);
    });
  };
  const std::int64_t timeout_ns = std::int64_t{options_.election.ttl_s} * 1'000'000'000 / 3;
  if (random_.fraction() < options_.late_share) {
    const std::int64_t late_ns = static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(timeout_ns) * 6));
    at(now_ns_ + late_ns, [call] { call->perform(); });
    answer(timeout_ns, [call](Election& election) { call->give_up(election, AgreementError::unknown); });
    return;
  }
  at(now_ns_ + delay_ns(), [this, name, run = node.run, call, answer, timeout_ns] {
    const SimNode& caller = nodes_.at(name);
    // The request is under way even if its caller has died.
    const bool arrives = !caller.cut || random_.below(2) == 0;
    Answer done;
    if (arrives) done = call->perform();
    if (caller.run != run) return;
    if (arrives && !caller.cut) return answer(delay_ns(), done);
    const auto error = arrives || random_.below(2) == 0 ? AgreementError::unknown : AgreementError::unavailable;
    answer(timeout_ns, [call, error](Election& election) { call->give_up(election, error); });
  });
}

void World::perform(SimNode& node, const election::StartLease& effect) {
  const std::int64_t sent_ns = node.clock->monotonic_ns();
  const std::uint64_t attempt = effect.attempt;
  call(node, 0, {
      [this, attempt, sent_ns, presence = presence_of(node, effect.takes_shards)] {
        const LeaseId lease = ++last_lease_;
        leases_[lease] = {presence.node, 0};
        presences_[presence.node] = {presence, lease};
        expire(lease);
        changed();
        return [attempt, sent_ns, lease](Election& election) { election.lease_started(attempt, sent_ns, lease); };
      },
      [attempt, sent_ns](Election& election, AgreementError error) {
        election.lease_started(attempt, sent_ns, error_of(error));
      }});
}

void World::perform(SimNode& node, const election::KeepAlive& effect) {
  const std::int64_t sent_ns = node.clock->monotonic_ns();
  const LeaseId lease = effect.lease;
  call(node, 0, {
      [this, lease, sent_ns]() -> Answer {
        if (!leases_.contains(lease)) {
          return [lease, sent_ns](Election& election) {
            election.kept_alive(lease, sent_ns, error_of(AgreementError::lease_lost));
          };
        }
        expire(lease);
        return [lease, sent_ns](Election& election) { election.kept_alive(lease, sent_ns, {}); };
      },
      [lease, sent_ns](Election& election, AgreementError error) {
        election.kept_alive(lease, sent_ns, error_of(error));
      }});
}

void World::perform(SimNode& node, const election::EndLease& effect) {
  call(node, 0, {[this, lease = effect.lease] {
                   end_lease(lease);
                   return [](Election&) {};
                 },
                 [](Election&, AgreementError) {}});
}

void World::perform(SimNode& node, const election::Announce& effect) {
  const bool takes = effect.takes_shards;
  call(node, 0, {
      [this, takes, lease = effect.lease, presence = presence_of(node, takes)]() -> Answer {
        if (!leases_.contains(lease)) {
          return [takes](Election& election) { election.announced(takes, error_of(AgreementError::lease_lost)); };
        }
        presences_[presence.node] = {presence, lease};
        changed();
        return [takes](Election& election) { election.announced(takes, {}); };
      },
      [takes](Election& election, AgreementError error) { election.announced(takes, error_of(error)); }});
}

void World::perform(SimNode& node, const election::LookAtView&) {
  if (std::exchange(node.view_queued, true)) return;
  const auto sent_ns = std::make_shared<std::int64_t>(0);
  const std::string name = node.name;
  call(node, 1, {
      [this, sent_ns]() -> Answer {
        if (!view_) {
          CoordinationView view;
          view.revision = revision_;
          for (const auto& [node, presence] : presences_) view.nodes.push_back(presence.first);
          for (const auto& [shard, owned] : owners_) view.owners.push_back(owned.first);
          view_ = std::make_shared<const CoordinationView>(std::move(view));
        }
        return [sent_ns, view = view_](Election& election) { election.set_view(*sent_ns, *view); };
      },
      [this, name](Election&, AgreementError) { perform(nodes_.at(name), election::LookAtView{}); },
      [this, name, sent_ns] {
        nodes_.at(name).view_queued = false;
        *sent_ns = nodes_.at(name).clock->monotonic_ns();
      }});
}

void World::perform(SimNode& node, const election::Claim& effect) {
  const ShardId shard = effect.shard;
  const LeaseId lease = effect.lease;
  call(node, 1, {
      [this, shard, lease, name = node.name, incarnation = node.incarnation]() -> Answer {
        AgreementError error = AgreementError::taken;
        if (!leases_.contains(lease)) error = AgreementError::lease_lost;
        else if (!owners_.contains(shard)) {
          const std::uint64_t epoch = ++revision_;
          own(shard, std::pair(Ownership{shard, name, incarnation, epoch}, lease));
          ++counts_.claims;
          return [shard, lease, epoch](Election& election) { election.claimed(shard, lease, epoch); };
        }
        return [shard, lease, error](Election& election) { election.claimed(shard, lease, error_of(error)); };
      },
      [shard, lease](Election& election, AgreementError error) { election.claimed(shard, lease, error_of(error)); }});
}

void World::perform(SimNode& node, const election::Release& effect) {
  call(node, 1, {
      [this, effect] {
        const auto found = owners_.find(effect.shard);
        if (found != owners_.end() && found->second.first.epoch == effect.epoch) own(effect.shard, std::nullopt);
        return [effect](Election& election) { election.released(effect.shard, effect.epoch, {}); };
      },
      [effect](Election& election, AgreementError error) {
        election.released(effect.shard, effect.epoch, error_of(error));
      }});
}

// ---- the service

void World::expire(LeaseId lease) {
  const std::int64_t expires_ns = now_ns_ + std::int64_t{options_.election.ttl_s} * 1'000'000'000;
  leases_.at(lease).expires_ns = expires_ns;
  at(expires_ns, [this, lease] {
    const auto found = leases_.find(lease);
    if (found != leases_.end() && found->second.expires_ns <= now_ns_) end_lease(lease);
  });
}

void World::end_lease(LeaseId lease) {
  if (leases_.erase(lease) == 0) return;
  std::erase_if(presences_, [lease](const auto& presence) { return presence.second.second == lease; });
  std::vector<ShardId> owned;
  for (const auto& [shard, owner] : owners_) {
    if (owner.second == lease) owned.push_back(shard);
  }
  for (const ShardId shard : owned) own(shard, std::nullopt);
  changed();
}

void World::change_coordination_leader() {
  for (const auto& [lease, known] : std::map(leases_)) expire(lease);
}

void World::own(ShardId shard, std::optional<std::pair<Ownership, LeaseId>> owner) {
  if (owner) {
    if (const auto vacant = vacant_since_ns_.find(shard); vacant != vacant_since_ns_.end()) {
      counts_.ownerless_ms_max = std::max(counts_.ownerless_ms_max, (now_ns_ - vacant->second) / 1'000'000);
      vacant_since_ns_.erase(vacant);
    }
    owners_.insert_or_assign(shard, std::move(*owner));
  } else {
    owners_.erase(shard);
    vacant_since_ns_[shard] = now_ns_;
  }
  for (const auto& [name, node] : nodes_) check_beliefs(node, shard);
  changed();
}

void World::changed() {
  ++revision_;
  view_.reset();
  for (auto& [name, node] : nodes_) {
    if (!node.election || node.cut || node.view_queued || random_.fraction() < options_.hint_loss) continue;
    to_node(name, delay_ns(), [this, name = name](Election&) { perform(nodes_.at(name), election::LookAtView{}); });
  }
}

}  // namespace outlast::cluster::testing
