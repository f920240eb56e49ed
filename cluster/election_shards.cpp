// What an Election does with one shard: from a claim to leading it, and back.
#include <algorithm>
#include <string>

#include "cluster/durations.hpp"
#include "cluster/election.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

using namespace election;

constexpr std::size_t stagger_rank_max = 20;
constexpr std::uint32_t doublings_max = 10;
constexpr std::uint32_t orphan_release_ms = 1'000;

// first, twice that, four times that, …
std::int64_t doubled_ns(std::uint32_t first_ms, std::uint32_t ms_max, std::uint32_t failures) {
  return std::min(ns_of(first_ms) << std::min(failures, doublings_max), ns_of(ms_max));
}

}  // namespace

void Election::enter(Shard& shard, Stage stage) {
  shard.stage = stage;
  shard.stage_since_ns = clock_.monotonic_ns();
  dirty_ = true;
}

void Election::step_down(Shard& shard, Why why, bool release_after) {
  effects_.emplace_back(StepDown{shard.id, shard.epoch, why});
  shard.release_after = release_after;
  enter(shard, Stage::stepping_down);
}

// The owner keys go with the lease: nothing is released one by one.
void Election::step_down_all(Why why) {
  for (Shard& shard : shards_) {
    switch (shard.stage) {
      case Stage::catching_up:
      case Stage::leading: step_down(shard, why, false); break;
      case Stage::stepping_down: shard.release_after = false; break;
      case Stage::claiming:  // an epoch that still comes is released
      case Stage::releasing:
        end_handover(shard, false);
        enter(shard, Stage::idle);
        break;
      case Stage::idle: break;
    }
  }
}

void Election::after_step_down(Shard& shard) {
  shard.release_in_flight = false;
  shard.next_release_ns = 0;
  if (shard.release_after && lease_) return enter(shard, Stage::releasing);
  end_handover(shard, false);
  enter(shard, Stage::idle);
}

void Election::hold_off(Shard& shard) {
  shard.failed_until_ns =
      clock_.monotonic_ns() + doubled_ns(options_.failure_ms, options_.failure_ms_max, shard.failures);
  ++shard.failures;
}

void Election::end_handover(Shard& shard, bool failed) {
  if (shard.successor.empty()) return;
  check(handovers_ > 0, "a handover that ends has begun");
  --handovers_;
  dirty_ = true;  // another may begin
  if (failed) distrust(shard, shard.successor);
  shard.successor.clear();
}

void Election::distrust(Shard& shard, const std::string& node) {
  Distrust& known = shard.distrust[node];
  known.until_ns = clock_.monotonic_ns() + doubled_ns(options_.distrust_ms, options_.distrust_ms_max, known.failures);
  ++known.failures;
}

void Election::evaluate(Shard& shard) {
  follow_or_drop(shard);
  switch (shard.stage) {
    case Stage::idle: return on_idle(shard);
    case Stage::claiming: return;
    case Stage::catching_up: return on_catching_up(shard);
    case Stage::leading: return on_leading(shard);
    case Stage::stepping_down: return on_stepping_down(shard);
    case Stage::releasing: return on_releasing(shard);
  }
}

void Election::follow_or_drop(Shard& shard) {
  const bool wanted =
      shard.id == control_shard ||
      std::find(shard.replicas.begin(), shard.replicas.end(), options_.node) != shard.replicas.end();
  if (wanted && !shard.following) {
    shard.following = true;
    shard.read_once = false;
    effects_.emplace_back(Follow{shard.id});
  }
  const bool free = shard.following && shard.stage == Stage::idle && shard.successor.empty();
  if (wanted || !free || !shard.owner || is_mine(shard.owner)) {
    shard.unneeded_since_ns = 0;
    return;
  }
  if (shard.unneeded_since_ns == 0) shard.unneeded_since_ns = now_ns_;
  const std::int64_t due_ns = shard.unneeded_since_ns + ns_of(options_.drop_after_ms);
  if (now_ns_ < due_ns) return wake_at(due_ns);
  shard.following = false;
  effects_.emplace_back(Drop{shard.id});
}

void Election::on_idle(Shard& shard) {
  if (!shard.successor.empty()) {
    const std::int64_t due_ns = shard.released_ns + ns_of(options_.handover_claim_ms);
    if (shard.owner && !is_mine(shard.owner) && shard.owner_seen_ns > shard.released_ns) {
      shard.distrust.erase(shard.successor);
      end_handover(shard, false);
    } else if (now_ns_ < due_ns) {
      return wake_at(due_ns);
    } else {
      end_handover(shard, true);
    }
  }
  if (is_mine(shard.owner)) {
    // Of a claim whose answer was lost, or of a lease that was given up: nobody here leads by it.
    if (now_ns_ < shard.next_release_ns) return wake_at(shard.next_release_ns);
    shard.next_release_ns = now_ns_ + ns_of(orphan_release_ms);
    effects_.emplace_back(Release{shard.id, shard.owner->epoch});
    return wake_at(shard.next_release_ns);
  }
  consider_claim(shard);
}

std::size_t Election::rank_of_self(const Shard& shard) const {
  const auto found = std::find(shard.order.begin(), shard.order.end(), options_.node);
  return static_cast<std::size_t>(found - shard.order.begin());
}

bool Election::near_tail(const Shard& shard) const {
  return shard.read_once && shard.applied + options_.handover_lag_max >= shard.tail;
}

// Nodes that drain, and those that still follow what others have now, come last: better them than nobody.
std::int64_t Election::claim_due_ns(const Shard& shard) const {
  const auto rank = static_cast<std::int64_t>(std::min(rank_of_self(shard), stagger_rank_max));
  std::int64_t due_ns = shard.vacant_since_ns + rank * ns_of(options_.claim_stagger_ms);
  if (near_tail(shard)) return due_ns;
  due_ns += ns_of(options_.uncaught_claim_ms);
  for (const std::string& name : shard.order) {
    const auto report = shard.reports.find(name);
    if (report == shard.reports.end() || report->second.applied <= shard.applied || !report->second.takes) continue;
    if (now_ns_ - report->second.at_ns > ns_of(options_.progress_stale_ms)) continue;
    // That one has more of the log. If it does not claim either, it is as good as gone.
    return due_ns + 3 * ns_of(options_.uncaught_claim_ms);
  }
  return due_ns;
}

void Election::consider_claim(Shard& shard) {
  const Node* me = self();
  if (!lease_ || !takes_part() || !view_known_ || me == nullptr || !me->ledger) return;
  if (!shard.following || !shard.read_once) return;
  const bool invited = now_ns_ < shard.invited_until_ns && !gives_away();
  if (shard.owner && !invited) return;
  const std::int64_t due_ns =
      std::max({invited ? now_ns_ : claim_due_ns(shard), shard.not_before_ns, shard.failed_until_ns});
  if (now_ns_ < due_ns) return wake_at(due_ns);
  if (claims_ >= options_.claims_max) return;  // the next answer comes back here
  // Who is better placed and said that it takes the shard, and did not, would not when it is given it either.
  for (std::size_t i = 0; !invited && i < std::min(rank_of_self(shard), shard.order.size()); ++i) {
    if (ready(shard, shard.order[i])) distrust(shard, shard.order[i]);
  }
  shard.invited_until_ns = 0;
  ++claims_;
  effects_.emplace_back(Claim{shard.id, *lease_});
  enter(shard, Stage::claiming);
}

// Whether the shard was taken away, or its thread hangs; then it steps down.
bool Election::stop_if_lost(Shard& shard) {
  if (shard.owner_seen_ns > shard.claimed_ns && (!shard.owner || shard.owner->epoch != shard.epoch)) {
    step_down(shard, Why::replaced, false);
    return true;
  }
  const std::int64_t hangs_ns = shard.progress_ns + ns_of(std::max(options_.hang_ms_max, options_.ttl_s * 1'000));
  if (now_ns_ < hangs_ns) {
    wake_at(hangs_ns);
    return false;
  }
  hold_off(shard);
  step_down(shard, Why::hung, true);
  return true;
}

void Election::on_catching_up(Shard& shard) {
  if (stop_if_lost(shard)) return;
  if (!shard.caught_up) {
    const std::int64_t due_ns = shard.stage_since_ns + ns_of(options_.catch_up_ms_max);
    if (now_ns_ < due_ns) return wake_at(due_ns);
    hold_off(shard);
    return step_down(shard, Why::hung, true);
  }
  effects_.emplace_back(Lead{shard.id, shard.epoch});
  enter(shard, Stage::leading);
}

void Election::on_leading(Shard& shard) {
  if (stop_if_lost(shard)) return;
  if (now_ns_ - shard.stage_since_ns > ns_of(options_.failure_ms_max)) shard.failures = 0;
  consider_handover(shard);
}

bool Election::ready(const Shard& shard, const std::string& name) const {
  const auto node = nodes_.find(name);
  const auto report = shard.reports.find(name);
  if (node == nodes_.end() || report == shard.reports.end()) return false;
  if (!node->second.takes || node->second.suspected) return false;
  if (!report->second.takes || report->second.incarnation != node->second.incarnation) return false;
  if (now_ns_ - report->second.at_ns > ns_of(options_.progress_stale_ms)) return false;
  if (report->second.lag > options_.handover_lag_max) return false;
  const auto distrust = shard.distrust.find(name);
  return distrust == shard.distrust.end() || now_ns_ >= distrust->second.until_ns;
}

// To the best placed node when that is another one and it is ready: not to one in between, or the shard would move
// twice. A node that drains gives to whoever is ready. Reports of the others bring it here again.
void Election::consider_handover(Shard& shard) {
  if (handovers_ >= options_.handovers_max || shard.order.empty()) return;
  const bool drains = gives_away();
  for (const std::string& name : shard.order) {
    if (name == options_.node) {
      if (!drains) return;
      continue;
    }
    if (ready(shard, name)) {
      ++handovers_;
      shard.successor = name;
      return step_down(shard, drains ? Why::draining : Why::handover, true);
    }
    if (!drains) return;
  }
}

void Election::on_stepping_down(Shard& shard) {
  const std::int64_t due_ns = shard.stage_since_ns + ns_of(options_.step_down_ms_max);
  if (now_ns_ < due_ns) return wake_at(due_ns);
  after_step_down(shard);  // whatever it still writes, its epoch is refused
}

void Election::on_releasing(Shard& shard) {
  if (shard.release_in_flight) return;
  if (now_ns_ < shard.next_release_ns) return wake_at(shard.next_release_ns);
  shard.release_in_flight = true;
  effects_.emplace_back(Release{shard.id, shard.epoch});
}

}  // namespace outlast::cluster
