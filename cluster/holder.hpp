// Holder: what a gateway process is to the cluster's ledger: a ShardStream and a SliceKeeper per shard, on a thread of
// their own. Lanes and actors submit from any thread; outcomes come back on the holder's thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cluster/coordination.hpp"
#include "cluster/holder_handover.hpp"
#include "cluster/message_room.hpp"
#include "cluster/shard_id.hpp"
#include "cluster/shard_money.hpp"
#include "cluster/shard_stream.hpp"
#include "cluster/slice_keeper.hpp"
#include "core/budget_book.hpp"
#include "core/clock.hpp"
#include "proto/shard_codec.hpp"
#include "storage/ledger_store.hpp"
#include "storage/spool.hpp"

namespace outlast::cluster {

struct HolderOptions {
  std::string node;
  Incarnation incarnation;
  std::string folder;  // spools, and who held before
  std::size_t submitted_max = 262'144;  // from lanes, not taken in yet; twice that for what ends a request
  std::uint64_t spool_bytes_max = 1ULL << 30;  // of each shard
};

struct HolderPorts {
  // To this node, too. Must not block; what is lost is said again.
  std::function<void(const std::string& node, shard::Message)> send;
  std::function<void()> look_for_owners;  // somebody says that there are others
  std::function<bool()> disk_full;        // no new reservations then
};

struct HolderCounters {
  std::uint64_t pending = 0;          // operations without an outcome, now
  std::uint64_t shards_cut_off = 0;   // now
  std::uint64_t spool_bytes = 0;      // now
  std::uint64_t spooled = 0;          // operations, since the start
  std::uint64_t refused = 0;
  std::uint64_t served_and_refused = 0;  // the ledger did not take what was in the spool: look into the log
  std::uint64_t dropped = 0;          // messages of owners for which there was no room
  bool handing_over = false;          // an earlier process's spools are not in the ledger yet
};

// Any thread, but for start() and stop().
class Holder {
 public:
  Holder(HolderOptions options, const Clock& clock, HolderPorts ports);
  ~Holder();
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;

  // Reads what earlier processes left, and begins. `on_record`: incarnations of this node that the cluster knows. Errors:
  // the disk's.
  Result<void> start(ShardId shards, std::span<const Incarnation> on_record);
  // Waits a moment for outcomes, then ends the thread. What has no outcome gets none.
  void stop();

  // Two per shard: reservations that wait for the ledger's word have their own, since they may be decided late.
  [[nodiscard]] static std::size_t ticket_groups(ShardId shards) { return std::size_t{shards} * 2; }
  std::unique_ptr<storage::LedgerSubmitter> make_submitter(
      std::function<void(std::uint64_t)> on_durable,
      std::function<void(std::uint64_t, const storage::Refused&)> on_refused);
  // An entry of no request. `done` is called when it is durable, or refused.
  void submit(ShardId shard, proto::EntryBody body, std::function<void(Result<void>)> done);

  // From the coordination's view.
  void set_owners(const std::vector<Ownership>& owners);
  void peer_up(const std::string& node) { peer_is(node, true); }
  void peer_down(const std::string& node) { peer_is(node, false); }
  void receive(std::string node, shard::Message message);

  // What each shard keeps (money_of_shards()); budget_book() shows it on return.
  void set_money(std::shared_ptr<const std::vector<ShardMoney>> money);
  [[nodiscard]] std::shared_ptr<const BudgetBook> budget_book() const;

  [[nodiscard]] std::uint64_t queued() const { return pending_.load(std::memory_order_relaxed); }
  [[nodiscard]] HolderCounters counters() const;

 private:
  class Submitter;
  // A submitter's callbacks, and its tickets that have no outcome yet.
  struct Recipient {
    std::function<void(std::uint64_t)> on_durable;
    std::function<void(std::uint64_t, const storage::Refused&)> on_refused;
    std::mutex mutex;  // held during callbacks
    bool closed = false;
    std::vector<RequestId> ended;           // reservations that were refused, for the submitter to forget
    std::atomic<bool> any_ended{false};
    std::map<std::uint64_t, std::deque<std::pair<std::uint64_t, bool>>> open;  // by group; the thread's
  };
  struct Waiter {
    std::shared_ptr<Recipient> recipient;
    std::uint64_t ticket = 0;
    RequestId begins{};  // of a reservation
    std::function<void(Result<void>)> done;  // of what is no request's
  };
  struct Submitted {
    ShardId shard = 0;
    std::variant<MeteringOperation, proto::EntryBody> operation;
    bool urgent = false;
    Waiter waiter;
  };
  struct Part {
    std::unique_ptr<ShardStream> stream;
    std::unique_ptr<SliceKeeper> keeper;
    std::unique_ptr<storage::Spool> spool;
    std::map<std::uint64_t, Waiter> waiters;  // by sequence
    std::string owner;
    std::uint64_t epoch = 0;
    bool connected = false;
  };
  struct Owner {
    std::string node;
    std::uint64_t epoch = 0;
  };

  Result<void> push(Submitted submitted);
  void peer_is(const std::string& node, bool up);
  void run();
  void work();
  void take_in(std::vector<Submitted>& submitted);
  void connect(ShardId shard, Part& part);
  void perform(ShardId shard, Part& part);
  void write_spool(ShardId shard, Part& part, const WriteSpool& write);
  void perform_handover();
  void tell(Waiter& waiter, std::optional<storage::Refused> refused);
  [[nodiscard]] std::int64_t wake_ns() const;

  const HolderOptions options_;
  const Clock& clock_;
  const HolderPorts ports_;
  ShardId shards_ = 0;

  mutable std::mutex work_mutex_;  // of the next six: the thread's while it works
  std::map<ShardId, Part> parts_;
  std::map<ShardId, Owner> owners_;
  std::set<std::string> up_;
  std::unique_ptr<HolderHandover> handover_;
  std::vector<EarlierHolder> earlier_;
  std::shared_ptr<const std::vector<ShardMoney>> money_ = std::make_shared<const std::vector<ShardMoney>>();
  std::shared_ptr<const BudgetBook> book_ = std::make_shared<const BudgetBook>();
  HolderCounters counters_;

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable arrived_;
  std::vector<Submitted> submitted_;
  std::vector<std::pair<std::string, shard::Message>> received_;
  MessageRoom room_;  // of those
  std::vector<std::pair<std::string, bool>> links_;  // that came up or went down
  bool woken_ = false;
  bool hastened_ = false;
  bool stop_ = false;
  std::atomic<std::uint64_t> pending_{0};
  std::thread thread_;
};

}  // namespace outlast::cluster
