#include "cluster/coordinator.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr auto view_retry = std::chrono::milliseconds(200);

constexpr std::int64_t wait_ns_max = 1'000'000'000;

}  // namespace

Coordinator::Coordinator(ElectionOptions options, Presence presence, Coordination& leases, Coordination& calls,
                         const Clock& clock, std::uint64_t seed, CoordinatorPorts ports)
    : leases_(leases),
      calls_(calls),
      clock_(clock),
      ports_(std::move(ports)),
      election_(std::move(options), clock, seed),
      presence_(std::move(presence)) {}

Coordinator::~Coordinator() { end(); }

void Coordinator::end() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  lease_thread_.end();
  call_thread_.end();
}

void Coordinator::start() {
  check(!thread_.joinable(), "a coordinator is started once");
  view_wanted_ = true;
  thread_ = std::thread([this] { run(); });
}

void Coordinator::stop(std::uint32_t wait_ms_max) {
  with([](Election& election) { election.stop(); });
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::chrono::milliseconds(wait_ms_max), [this] { return stopped_; });
  lock.unlock();
  end();
}

void Coordinator::drain() {
  with([](Election& election) { election.drain(); });
}

void Coordinator::with(const std::function<void(Election&)>& change) {
  {
    const std::lock_guard lock(mutex_);
    change(election_);
    woken_ = true;
  }
  changed_.notify_all();
}

void Coordinator::view_changed() {
  {
    const std::lock_guard lock(mutex_);
    view_wanted_ = true;
    woken_ = true;
  }
  changed_.notify_all();
}

void Coordinator::run() {
  std::int64_t viewed_ns = std::numeric_limits<std::int64_t>::min() / 2;
  // With the mutex. While one is on its way: never.
  const auto view_due_ns = [this, &viewed_ns] {
    if (view_pending_) return std::numeric_limits<std::int64_t>::max();
    return viewed_ns + (view_wanted_ ? view_gap_ns(nodes_seen_) : view_interval_ns(nodes_seen_));
  };
  for (;;) {
    std::vector<election::Effect> effects;
    bool looks = false;
    {
      std::unique_lock lock(mutex_);
      const std::int64_t now_ns = clock_.monotonic_ns();
      const std::int64_t wake_ns = std::min(election_.next_wake_ns(), view_due_ns());
      if (wake_ns > now_ns) {
        changed_.wait_for(lock, std::chrono::nanoseconds(std::min<std::int64_t>(wake_ns - now_ns, wait_ns_max)),
                          [this] { return woken_ || stop_; });
      }
      if (stop_) return;
      woken_ = false;
      looks = clock_.monotonic_ns() >= view_due_ns();
      if (looks) {
        viewed_ns = clock_.monotonic_ns();
        view_wanted_ = false;  // a hint from here on wants another
        view_pending_ = true;
      }
      election_.tick();
      effects = election_.take_effects();
      lead_deadline_ns_->store(election_.lead_deadline_ns(), std::memory_order_release);
    }
    perform(std::move(effects));
    if (looks) call_thread_.push([this] { read_view(); });
  }
}

void Coordinator::perform(std::vector<election::Effect> effects) {
  for (const election::Effect& effect : effects) perform(effect);
}

void Coordinator::perform(const election::Effect& effect) {
  using namespace election;
  if (const auto* follow = std::get_if<Follow>(&effect)) return ports_.follow(follow->shard);
  if (const auto* drop = std::get_if<Drop>(&effect)) return ports_.drop(drop->shard);
  if (const auto* catch_up = std::get_if<CatchUp>(&effect)) return ports_.catch_up(catch_up->shard, catch_up->epoch);
  if (const auto* lead = std::get_if<Lead>(&effect)) return ports_.lead(lead->shard, lead->epoch);
  if (const auto* down = std::get_if<StepDown>(&effect)) return ports_.step_down(down->shard, down->epoch, down->why);
  if (const auto* tell = std::get_if<Tell>(&effect)) return ports_.tell(tell->node, tell->shard);
  if (std::holds_alternative<LookAtView>(effect)) return view_changed();
  if (std::holds_alternative<Drained>(effect)) return ports_.drained();
  if (std::holds_alternative<Stopped>(effect)) {
    // Behind the end of the lease, which waits there.
    lease_thread_.push([this] {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
      changed_.notify_all();
    });
    return;
  }
  if (const auto* claim = std::get_if<Claim>(&effect)) {
    call_thread_.push([this, claim = *claim] {
      const auto epoch = calls_.claim(claim.shard, claim.lease, presence_);
      with([&claim, &epoch](Election& election) { election.claimed(claim.shard, claim.lease, epoch); });
    });
    return;
  }
  if (const auto* release = std::get_if<Release>(&effect)) {
    call_thread_.push([this, release = *release] {
      const auto done = calls_.release(release.shard, release.epoch);
      with([&release, &done](Election& election) { election.released(release.shard, release.epoch, done); });
    });
    return;
  }
  lease_thread_.push([this, effect] { call_lease(effect); });
}

void Coordinator::call_lease(const election::Effect& effect) {
  using namespace election;
  const std::int64_t sent_ns = clock_.monotonic_ns();
  const auto presence_as = [this](bool takes_shards) {
    Presence presence = presence_;
    if (!takes_shards) std::erase(presence.roles, std::string(ledger_role));
    return presence;
  };
  if (const auto* start = std::get_if<StartLease>(&effect)) {
    const auto lease = leases_.start_lease(start->ttl_s, presence_as(start->takes_shards));
    if (!lease) log::warning("lease_not_started", {{"error", lease.error().message}});
    with([&](Election& election) { election.lease_started(start->attempt, sent_ns, lease); });
  } else if (const auto* keep = std::get_if<KeepAlive>(&effect)) {
    const auto kept = leases_.keep_alive(keep->lease);
    if (!kept) log::warning("lease_not_kept", {{"error", kept.error().message}});
    with([&](Election& election) { election.kept_alive(keep->lease, sent_ns, kept); });
  } else if (const auto* end = std::get_if<EndLease>(&effect)) {
    const auto ended = leases_.end_lease(end->lease);  // else it expires
    if (!ended) log::warning("lease_not_ended", {{"error", ended.error().message}});
  } else if (const auto* announce = std::get_if<Announce>(&effect)) {
    const auto told = leases_.update(announce->lease, presence_as(announce->takes_shards));
    with([&](Election& election) { election.announced(announce->takes_shards, told); });
  }
}

// Until it succeeds: the election waits for it.
void Coordinator::read_view() {
  const std::int64_t sent_ns = clock_.monotonic_ns();
  const auto view = calls_.view();
  if (!view) call_thread_.pause(view_retry);
  else ports_.view(*view);
  with([this, &view, sent_ns](Election& election) {
    view_pending_ = false;
    if (!view) {
      view_wanted_ = true;
      return;
    }
    nodes_seen_ = view->nodes.size();
    election.set_view(sent_ns, *view);
  });
}

}  // namespace outlast::cluster
