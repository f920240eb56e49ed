// MemoryAgreement: logs, leases and owners that many nodes share, in memory and in one thread: what simulations run on.
// It fails as etcd does, as a hook or a seed says: calls that are not answered, done or not, or done later.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/coordination.hpp"
#include "core/clock.hpp"
#include "core/random.hpp"

namespace outlast::cluster {

enum class AgreementCall : std::uint8_t {
  start_lease, update, keep_alive, end_lease, claim, release, view, append, tail, read, trim,
};

// One owner: everything that uses it is in one thread.
class MemoryAgreement {
 public:
  // What becomes of a call.
  enum class Fate : std::uint8_t {
    done,
    refused,          // nothing happened: `unavailable`
    done_unanswered,  // it happened; of a write the caller hears `unknown`, else `unavailable`
    lost,             // it did not happen; the caller hears the same
    late,             // it has not happened yet; the caller hears the same
  };
  // Of calls by a node, asked before each. Reads (view, tail, read) only know done and not done.
  using FateOf = std::function<Fate(std::string_view node, AgreementCall call)>;

  // Leases go by `clock`'s monotonic time; `seed` decides when late calls happen.
  MemoryAgreement(const Clock& clock, std::uint64_t seed);
  ~MemoryAgreement();
  MemoryAgreement(const MemoryAgreement&) = delete;
  MemoryAgreement& operator=(const MemoryAgreement&) = delete;

  // A node's access, for Coordination and, by its log(), for SharedLog. Not to be used after this ended.
  std::unique_ptr<Coordination> node(std::string name);
  void set_fate(FateOf fate) { fate_ = std::move(fate); }
  // Fates by chance: of a thousand calls, so many of each kind.
  static FateOf fates(std::uint64_t seed, std::uint32_t refused, std::uint32_t done_unanswered, std::uint32_t lost,
                      std::uint32_t late);
  // Cut off from it, every call of the node is `unavailable`; hints to it are dropped.
  void cut_off(std::string_view node, bool cut);

  // Ends leases whose time is over. Every call does that first, too.
  void tick();
  // All leases have their whole time again, as after a change of etcd's leader.
  void renew_leases();
  // What is late happens now, in order.
  void land();
  // Calls what was given to watch(), for what has changed since. Nobody is called at any other time.
  void deliver_hints();
  void drop_hints();

  // Where a test may look, or do damage.
  [[nodiscard]] std::deque<SharedBatch>& batches(ShardId shard) { return logs_[shard].batches; }
  [[nodiscard]] const std::map<ShardId, Ownership>& owners() const { return owners_; }
  [[nodiscard]] std::size_t calls() const { return calls_; }

 private:
  class Node;
  class NodeLog;
  struct SharedState {
    std::deque<SharedBatch> batches;
    std::uint64_t next_index = 0;
  };
  struct Lease {
    std::uint32_t ttl_s = 0;
    std::int64_t until_ns = 0;
    std::string node;
  };
  struct NodeRow {
    Presence presence;
    LeaseId lease = 0;
  };
  struct Watcher {
    std::function<void()> view_changed;
    std::function<void(ShardId)> log_grew;
    bool view_due = false;
    std::set<ShardId> logs_due;
  };

  // Runs `write` as the fate says.
  template <class T>
  Result<T> write(const std::string& node, AgreementCall call, std::function<Result<T>()> work);
  Result<void> before_read(const std::string& node, AgreementCall call);
  bool begin_call(const std::string& node);
  Error nobody_answers(const std::string& node) const;
  void do_end_lease(LeaseId lease);
  void view_changed();
  void log_grew(ShardId shard);

  Result<LeaseId> do_start_lease(std::uint32_t ttl_s, const Presence& presence);
  Result<void> do_update(LeaseId lease, const Presence& presence);
  Result<void> do_keep_alive(LeaseId lease);
  Result<std::uint64_t> do_claim(ShardId shard, LeaseId lease, const Presence& me);
  Result<void> do_release(ShardId shard, std::uint64_t epoch);
  Result<void> do_append(ShardId shard, const SharedBatch& batch);
  void do_trim(ShardId shard, std::uint64_t below);
  SharedTail do_tail(ShardId shard);
  // The batch that holds `from`: a copy, since who reads it may append. None at the end.
  Result<std::optional<SharedBatch>> do_read(ShardId shard, std::uint64_t from);
  CoordinationView do_view() const;

  const Clock& clock_;
  Random random_;
  FateOf fate_;
  std::set<std::string, std::less<>> cut_off_;
  std::map<ShardId, SharedState> logs_;
  std::map<LeaseId, Lease> leases_;
  std::map<std::string, NodeRow> nodes_;
  std::map<ShardId, Ownership> owners_;
  std::map<ShardId, LeaseId> owner_leases_;
  std::map<std::string, Watcher> watchers_;
  std::deque<std::function<void()>> late_;
  std::uint64_t revision_ = 1;
  LeaseId last_lease_ = 0;
  std::size_t calls_ = 0;
};

}  // namespace outlast::cluster
