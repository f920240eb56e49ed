// ShardHost: one shard on this node: its store, its state machine and the thread that both belong to. As a replica it
// follows the shared log; as the owner it answers holders.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "cluster/batch_codec.hpp"
#include "cluster/commit_times.hpp"
#include "cluster/coordination.hpp"
#include "cluster/message_room.hpp"
#include "cluster/replicated_log.hpp"
#include "cluster/shard_id.hpp"
#include "cluster/shard_owner.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/ledger_codec.hpp"
#include "proto/shard_codec.hpp"
#include "storage/accounts.hpp"
#include "storage/entry.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/rocks_log.hpp"

namespace outlast::cluster {

struct ShardHostOptions {
  ShardId shard = 0;
  ShardId shards = 1;  // of the cluster
  std::string folder;  // of its store; made when absent
  std::string node;
  Incarnation incarnation;
  std::string software;
  std::uint32_t sync_interval_ms = 1'000;   // of a replica's store
  std::uint32_t poll_interval_ms = 1'000;   // of the shared log, without a hint
  std::uint32_t sent_wait_ms = 100;         // after a hint, for what the owner sends
};

struct HostStatus {
  ShardId shard = 0;
  bool leading = false;
  std::uint64_t epoch = 0;          // of the last entry
  std::uint64_t applied = 0;        // next index
  std::uint64_t durable = 0;        // on this node's own disk; never above applied
  std::uint64_t tail = 0;           // of the shared log, when last read
  std::uint64_t open_reservations = 0;
  std::uint64_t batches = 0;        // that this node appended
  std::uint64_t commit_us_last = 0;
  CommitTimes commits;              // of those batches, agreement included
  std::uint64_t trimmed = 0;        // entries below have left the shared log, as the owner did it
  bool behind = false;              // the log was trimmed above what this replica has: it needs a checkpoint
  std::string problem;              // why it does not get on; empty when it does
  std::uint64_t dropped = 0;        // messages for which there was no room
  std::uint64_t foreign = 0;        // messages of nodes about other nodes' holders, which were not heard
  bool mirrors = false;             // as the owner: the control log's budgets are its own
};

// Called on the host's thread; must not block.
struct ShardHostPorts {
  std::function<void(const std::string& node, shard::Message)> send;  // to this node, too
  // To whoever owns that shard now; lost where nobody does.
  std::function<void(ShardId, shard::Message)> send_to_shard;
  // A batch of the owner stands in the shared log: for replicas, which need not read it there then.
  std::function<void(ShardId, std::string_view batch)> appended;
  // Once it has read to the log's end: after each batch, and at least once a second.
  std::function<void(const HostStatus&)> progress;
  // The shared log was trimmed above what this replica has: it needs a checkpoint, and follows no more.
  std::function<void(ShardId)> behind;
  std::function<void(ShardId, std::uint64_t epoch)> caught_up;
  std::function<void(ShardId, std::uint64_t epoch)> stepped_down;
  std::function<void(ShardId, std::uint64_t epoch)> failed;  // cannot lead: it follows again
  // Entries that were applied since the last call, in order. Null where nobody needs them.
  std::function<void(const storage::LedgerState& state, const storage::LedgerView& view,
                     const std::vector<storage::StoredEntry>& entries)>
      applied;
  // As OwnerOptions::node_of. Any thread.
  std::function<std::string(const Incarnation&)> node_of;
};

// What an owner takes in.
bool is_for_owner(const shard::Message& message);

// Any thread.
class ShardHost {
 public:
  using Done = std::function<void(Result<void>)>;

  // Opens the store and recovers it; the thread starts to follow. `log`: this host's own handle of the shared log, used
  // on its thread. `lead_deadline_ns`: until when this node may believe that it owns what it owns, by `boot_clock`.
  static Result<std::unique_ptr<ShardHost>> open(ShardHostOptions options, const Clock& clock, const Clock& boot_clock,
                                                 std::unique_ptr<SharedLog> log,
                                                 std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns,
                                                 ShardHostPorts ports);
  ~ShardHost();
  ShardHost(const ShardHost&) = delete;
  ShardHost& operator=(const ShardHost&) = delete;

  // Before it leads anything: for a host that was opened before there was an election.
  void set_lead_deadline(std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns);
  // A hint. It is waited for a moment whether the owner sends what is new.
  void log_grew();
  // What the owner sent. May be lost: the shared log has it.
  void take_batch(std::string batch);
  // Reads the log to its end, then says caught_up.
  void catch_up(std::uint64_t epoch);
  void lead(std::uint64_t epoch);
  // Finishes the batch under way, then says stepped_down.
  void step_down(std::uint64_t epoch);
  // For the owner; a replica answers that it is none.
  void receive(std::string node, shard::Message message);
  // Of the control shard, for the owner of a ledger shard to mirror once it was told mirror(): a replica of the control log
  // that lags must not take a budget for removed.
  void set_money(std::shared_ptr<const std::vector<ShardMoney>> money);
  // The budgets are those of a control log that was current after this host began to lead.
  void mirror(std::uint64_t epoch);
  // Processes of nodes that were removed: what they held counts as spent.
  void set_gone(std::shared_ptr<const std::vector<Incarnation>> gone);
  // Entries below may leave the shared log. As the owner.
  void trim(std::uint64_t below);
  // `done` is called once this replica has applied what the log held when this was called, or with an error when the log
  // cannot be read or the host ends first: once in any case, on the host's thread or, when it is stopping, at once.
  void when_current(Done done);

  [[nodiscard]] HostStatus status() const;
  // With balances and roll-ups of the moment: waits for the thread. Null when the host is stopping.
  [[nodiscard]] std::unique_ptr<storage::LedgerView> whole_snapshot() const;
  [[nodiscard]] std::unique_ptr<storage::LedgerView> snapshot() const { return log_->snapshot(); }
  // Where budgets and commitments stand; waits for the thread.
  [[nodiscard]] storage::MoneyStatus money() const;
  // A copy of the store in a new folder, and its next index: waits for the thread.
  [[nodiscard]] Result<std::uint64_t> checkpoint(const std::string& folder) const;
  // As storage::make_backup(), of the store as it is now. On the calling thread; may take long.
  [[nodiscard]] Result<storage::BackupReport> backup(const std::string& folder, std::uint32_t keep) const {
    return log_->backup(folder, keep);
  }
  // As LedgerWriter::state_digest(), with the index that it is of.
  [[nodiscard]] std::pair<std::uint64_t, Digest> digest() const;
  [[nodiscard]] const ShardHostOptions& options() const { return options_; }

 private:
  using Task = std::function<void()>;

  ShardHost(ShardHostOptions options, const Clock& clock, const Clock& boot_clock, std::unique_ptr<SharedLog> shared,
            std::unique_ptr<storage::RocksLog> log, std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns,
            ShardHostPorts ports);
  // False when the host is stopping.
  bool post(Task task) const;
  // Runs on the thread and waits.
  template <class T>
  std::optional<T> ask(std::function<T()> question) const;

  void run();
  void follow();
  void follow_later(const Error& error);
  void begin_currents(std::vector<Done> asked);
  void answer_currents();
  void own();
  [[nodiscard]] const ShardMoney& own_money() const { return (*money_)[options_.shard]; }
  void perform_effects();
  [[nodiscard]] bool commit_can_wait() const;
  void take_sent(std::string_view batch);
  void count_commit(std::uint64_t before, std::int64_t start_ns);
  [[nodiscard]] std::uint64_t committed() const { return writer_->next_index() - writer_->pending_entries(); }
  bool keep(const Result<void>& done);
  void note_foreign(const std::string& node);
  void end_gone();
  Result<void> open_writer();
  void resign();
  void stop_leading(const Error& why);
  void tell_progress(bool always);
  void tell_applied();
  void sync_if_due();
  [[nodiscard]] bool may_lead() const;
  [[nodiscard]] std::int64_t wake_ns() const;

  const ShardHostOptions options_;
  const Clock& clock_;
  const Clock& boot_clock_;
  const ShardHostPorts ports_;

  // The thread's.
  std::shared_ptr<const std::atomic<std::int64_t>> lead_deadline_ns_;
  std::unique_ptr<SharedLog> shared_;
  std::unique_ptr<storage::RocksLog> log_;  // snapshots: any thread
  std::unique_ptr<ReplicatedLog> replicated_;
  std::unique_ptr<storage::LedgerWriter> writer_;
  std::unique_ptr<ShardOwner> owner_;
  std::optional<std::uint64_t> catching_up_;  // an epoch that was claimed
  std::shared_ptr<const std::vector<ShardMoney>> money_;
  std::shared_ptr<const std::vector<Incarnation>> gone_;
  std::vector<std::pair<std::uint64_t, Done>> currents_;  // who waits for an index
  BatchCodec codec_;
  bool grew_ = true;
  std::int64_t hinted_ns_ = 0;  // when the log was said to have grown by what has not come yet; 0: it was not
  bool read_to_end_ = false;
  std::int64_t polled_ns_ = 0;
  std::int64_t commit_after_ns_ = 0;  // what nobody waits for
  std::int64_t synced_ns_ = 0;
  std::int64_t told_ns_ = 0;
  std::uint64_t durable_ = 0;
  std::uint64_t told_applied_ = 0;  // entries that went to ports_.applied
  HostStatus working_;

  mutable std::mutex mutex_;  // of what follows
  mutable std::condition_variable arrived_;
  mutable std::vector<Task> tasks_;
  std::vector<Done> asked_;  // by when_current()
  MessageRoom room_;  // of messages among them
  HostStatus status_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace outlast::cluster
