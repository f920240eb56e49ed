#include "cluster/lease_keeper.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "cluster/durations.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

constexpr std::int64_t retry_ns_min = 100'000'000;
// Of the TTL: clocks that run apart, and the last steps of an owner that stops.
constexpr std::int64_t margin_share = 10;
constexpr std::uint32_t doublings_max = 6;

}  // namespace

LeaseKeeper::LeaseKeeper(std::uint32_t ttl_s, const Clock& clock, std::uint64_t seed)
    : ttl_ns_(std::int64_t{ttl_s} * ns_per_s), clock_(clock), random_(seed) {
  check(ttl_s >= lease_ttl_s_min && ttl_s <= lease_ttl_s_max, "a lease's TTL is in its limits", std::to_string(ttl_s));
}

std::int64_t LeaseKeeper::deadline_of(std::int64_t sent_ns) const { return sent_ns + ttl_ns_ - ttl_ns_ / margin_share; }

void LeaseKeeper::start() {
  if (wanted_) return;
  wanted_ = true;
  failures_ = 0;
  next_call_ns_ = clock_.monotonic_ns();
}

void LeaseKeeper::stop() {
  if (!wanted_) return;
  wanted_ = false;
  if (lease_) to_end_.push_back(*lease_);
  lease_.reset();
  in_flight_ = false;
  ++attempt_;  // the answer to a start that is under way ends that lease
}

void LeaseKeeper::started(std::uint64_t attempt, std::int64_t sent_ns, const Result<LeaseId>& lease) {
  if (attempt != attempt_ || !wanted_ || lease_) {
    if (lease) to_end_.push_back(*lease);
    return;
  }
  in_flight_ = false;
  if (!lease) return retry_later();
  if (clock_.monotonic_ns() >= deadline_of(sent_ns)) {
    to_end_.push_back(*lease);
    return retry_later();
  }
  lease_ = *lease;
  deadline_ns_ = deadline_of(sent_ns);
  next_call_ns_ = sent_ns + ttl_ns_ / 3;
  failures_ = 0;
}

void LeaseKeeper::kept_alive(LeaseId lease, std::int64_t sent_ns, const Result<void>& result) {
  if (lease_ != lease) return;
  in_flight_ = false;
  if (result) {
    // A deadline that nobody saw pass may be moved: the lease was alive all the time.
    deadline_ns_ = std::max(deadline_ns_, deadline_of(sent_ns));
    next_call_ns_ = sent_ns + ttl_ns_ / 3;
    failures_ = 0;
  } else if (is(result.error(), AgreementError::lease_lost)) {
    lease_.reset();
    ++leases_lost_;
    failures_ = 0;
    next_call_ns_ = clock_.monotonic_ns();
  } else {
    retry_later();
  }
}

std::optional<LeaseId> LeaseKeeper::held() const {
  if (!lease_ || clock_.monotonic_ns() >= deadline_ns_) return std::nullopt;
  return lease_;
}

void LeaseKeeper::give_up() {
  // Whoever waits for its shards need not wait for its expiry, if it still lives.
  to_end_.push_back(*lease_);
  lease_.reset();
  ++leases_lost_;
  in_flight_ = false;
  failures_ = 0;
  next_call_ns_ = clock_.monotonic_ns();
}

// Half to all of a wait that doubles: nodes that lost etcd together do not come back together.
void LeaseKeeper::retry_later() {
  const std::int64_t wait_ns_max = std::max(retry_ns_min, ttl_ns_ / 6);
  const std::int64_t wait_ns = std::min(retry_ns_min << std::min(failures_, doublings_max), wait_ns_max);
  ++failures_;
  next_call_ns_ = clock_.monotonic_ns() + wait_ns / 2 +
                  static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(wait_ns / 2 + 1)));
}

std::vector<election::LeaseEffect> LeaseKeeper::tick() {
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (lease_ && now_ns >= deadline_ns_) give_up();
  std::vector<election::LeaseEffect> effects;
  for (const LeaseId lease : to_end_) effects.emplace_back(election::EndLease{lease});
  to_end_.clear();
  if (wanted_ && !in_flight_ && now_ns >= next_call_ns_) {
    in_flight_ = true;
    if (lease_) {
      effects.emplace_back(election::KeepAlive{*lease_});
    } else {
      effects.emplace_back(election::StartLease{++attempt_, static_cast<std::uint32_t>(ttl_ns_ / ns_per_s), true});
    }
  }
  return effects;
}

std::int64_t LeaseKeeper::next_wake_ns() const {
  if (!to_end_.empty()) return clock_.monotonic_ns();
  std::int64_t wake_ns = std::numeric_limits<std::int64_t>::max();
  if (lease_) wake_ns = deadline_ns_;
  if (wanted_ && !in_flight_) wake_ns = std::min(wake_ns, next_call_ns_);
  return wake_ns;
}

}  // namespace outlast::cluster
