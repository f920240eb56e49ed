// LeaseKeeper: keeps this node's lease alive, and knows until when it may believe in it. Everything that a node does as
// an owner hangs on that moment: time before sending the last good keepalive + TTL − margin. No thread, no socket.
#pragma once

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "cluster/coordination.hpp"
#include "core/clock.hpp"
#include "core/random.hpp"

namespace outlast::cluster {

inline constexpr std::uint32_t lease_ttl_s_min = 2;  // etcd's shortest with its default election time-out
inline constexpr std::uint32_t lease_ttl_s_max = 300;

namespace election {

// What the owner of a keeper is asked to do. `sent_ns` of the answers is the clock's time *before* the call was made.
struct StartLease {
  std::uint64_t attempt = 0;  // goes back with the answer
  std::uint32_t ttl_s = 0;
  bool takes_shards = true;   // false: presence goes without the role "ledger"
};
struct KeepAlive {
  LeaseId lease = 0;
};
// Best effort: a lease that cannot be ended expires.
struct EndLease {
  LeaseId lease = 0;
};
using LeaseEffect = std::variant<StartLease, KeepAlive, EndLease>;

}  // namespace election

// One owner. `clock` must run on while the machine sleeps (BootClock): a process that was paused sees that time went by.
class LeaseKeeper {
 public:
  LeaseKeeper(std::uint32_t ttl_s, const Clock& clock, std::uint64_t seed);

  // Wants a lease from now on, and a new one whenever it is lost.
  void start();
  // Ends the lease, and wants none.
  void stop();
  [[nodiscard]] bool wanted() const { return wanted_; }

  void started(std::uint64_t attempt, std::int64_t sent_ns, const Result<LeaseId>& lease);
  void kept_alive(LeaseId lease, std::int64_t sent_ns, const Result<void>& result);

  // The lease, while it may be believed in: asked of the clock anew each time.
  [[nodiscard]] std::optional<LeaseId> held() const;
  // Until then, by the clock; 0: no lease. Shard threads compare it with the clock before they answer anyone.
  [[nodiscard]] std::int64_t deadline_ns() const { return lease_ ? deadline_ns_ : 0; }

  // Does what is due: a lease past its deadline is given up and ended, and another is asked for.
  [[nodiscard]] std::vector<election::LeaseEffect> tick();
  [[nodiscard]] std::int64_t next_wake_ns() const;
  [[nodiscard]] std::uint64_t leases_lost() const { return leases_lost_; }

 private:
  [[nodiscard]] std::int64_t deadline_of(std::int64_t sent_ns) const;
  void give_up();
  void retry_later();

  const std::int64_t ttl_ns_;
  const Clock& clock_;
  Random random_;
  bool wanted_ = false;
  std::optional<LeaseId> lease_;
  std::int64_t deadline_ns_ = 0;
  std::int64_t next_call_ns_ = 0;
  bool in_flight_ = false;
  std::uint64_t attempt_ = 0;
  std::uint32_t failures_ = 0;
  std::uint64_t leases_lost_ = 0;
  std::vector<LeaseId> to_end_;
};

}  // namespace outlast::cluster
