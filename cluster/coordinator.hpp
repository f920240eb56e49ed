// Coordinator: runs a node's Election: a thread that ticks it, and two that make its calls to etcd, so that no claim that
// hangs holds up a keepalive. What concerns shards and other nodes goes out by ports.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "cluster/call_thread.hpp"
#include "cluster/coordination.hpp"
#include "cluster/election.hpp"
#include "core/clock.hpp"

namespace outlast::cluster {

// A view is read again after at least the gap when something hints at a change, and after the interval without a hint: hints can be
// lost. All nodes' views together grow with the square of their number.
constexpr std::int64_t view_gap_ns(std::size_t nodes) { return std::min<std::int64_t>(static_cast<std::int64_t>(nodes) * 1'000'000, 1'000'000'000); }
constexpr std::int64_t view_interval_ns(std::size_t nodes) {
  return std::clamp<std::int64_t>(static_cast<std::int64_t>(nodes) * 30'000'000, 1'000'000'000, 30'000'000'000);
}

// Called on the coordinator's thread, without a lock; must not block.
struct CoordinatorPorts {
  std::function<void(ShardId)> follow;
  std::function<void(ShardId)> drop;
  std::function<void(ShardId, std::uint64_t epoch)> catch_up;
  std::function<void(ShardId, std::uint64_t epoch)> lead;
  std::function<void(ShardId, std::uint64_t epoch, election::Why)> step_down;
  std::function<void(const std::string& node, ShardId)> tell;
  // Every view as it comes.
  std::function<void(const CoordinationView&)> view;
  std::function<void()> drained;
};

// Any thread.
class Coordinator {
 public:
  // `leases` and `calls`: two ways to the same etcd, each used by one thread only. `clock`: a BootClock. All outlive it.
  Coordinator(ElectionOptions options, Presence presence, Coordination& leases, Coordination& calls, const Clock& clock,
              std::uint64_t seed, CoordinatorPorts ports);
  ~Coordinator();
  Coordinator(const Coordinator&) = delete;
  Coordinator& operator=(const Coordinator&) = delete;

  void start();
  // Steps down from all, in order, and ends the lease; waits for it, at most as long as given; then ends the threads.
  void stop(std::uint32_t wait_ms_max);
  void drain();

  // Runs `change` on the election and ticks it.
  void with(const std::function<void(Election&)>& change);
  // Reads, without a tick.
  template <class T>
  T look(const std::function<T(const Election&)>& read) const {
    const std::lock_guard lock(mutex_);
    return read(election_);
  }
  // A hint: something changed in etcd.
  void view_changed();
  // As the threads of shards ask before they acknowledge anything: one load.
  [[nodiscard]] std::int64_t lead_deadline_ns() const { return lead_deadline_ns_->load(std::memory_order_acquire); }
  // A copy of the deadline that outlives the coordinator.
  [[nodiscard]] std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline() const { return lead_deadline_ns_; }

 private:
  void run();
  void end();
  void perform(std::vector<election::Effect> effects);
  void perform(const election::Effect& effect);
  void call_lease(const election::Effect& effect);
  void read_view();

  Coordination& leases_;
  Coordination& calls_;
  const Clock& clock_;
  const CoordinatorPorts ports_;
  mutable std::mutex mutex_;  // of the eight below
  std::condition_variable changed_;
  Election election_;
  Presence presence_;
  bool woken_ = false;
  bool stop_ = false;
  bool stopped_ = false;  // the election has said so
  bool view_wanted_ = false;   // by a hint
  bool view_pending_ = false;  // one is read, or about to be
  std::size_t nodes_seen_ = 0;
  std::shared_ptr<std::atomic<std::int64_t>> lead_deadline_ns_ = std::make_shared<std::atomic<std::int64_t>>(0);
  CallThread lease_thread_;
  CallThread call_thread_;
  std::thread thread_;
};

}  // namespace outlast::cluster
