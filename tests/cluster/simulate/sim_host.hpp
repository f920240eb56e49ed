// SimHost: what ShardHost does, step by step and without its thread: one shard on one node, followed or owned.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cluster/election.hpp"
#include "cluster/replicated_log.hpp"
#include "cluster/shard_owner.hpp"
#include "core/clock.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/cluster/simulate/lossy_log.hpp"

namespace outlast::cluster::simulation {

struct SimHostPorts {
  std::function<void(const std::string& node, const shard::Message&)> send;
  std::function<void(ShardId, const shard::Message&)> send_to_shard;
  std::function<void(ShardId, std::string_view batch)> appended;
  std::function<void(const std::string&)> note;
};

class SimHost {
 public:
  // All references outlive it. `deadline_ns`: until when the node may believe in its lease.
  SimHost(ShardId shard, std::string node, Incarnation incarnation, const Clock& clock, std::unique_ptr<SharedLog> shared,
          LossyLog& disk, const std::int64_t& deadline_ns, Election& election, ShardId shards, ShardMoney money,
          SimHostPorts ports);

  void log_grew() { grew_ = true; }
  void take_batch(const std::string& batch);
  void catch_up(std::uint64_t epoch);
  void lead(std::uint64_t epoch);
  void step_down(std::uint64_t epoch);
  void receive(const std::string& node, const shard::Message& message);
  void step();
  // In order: the next start has nothing to replay.
  void finish();

  bool hangs = false;  // its thread does not get on
  std::string broken;  // the first rule that was broken
  [[nodiscard]] storage::LedgerWriter& writer() { return *writer_; }
  [[nodiscard]] bool owns() const { return owner_ != nullptr; }
  [[nodiscard]] bool is_at_rest() const { return owner_ == nullptr || !owner_->is_dirty(); }

 private:
  void open_writer();
  bool keep(const Result<void>& done);
  void stop_leading(const Error& why);
  void own();
  void follow();
  void tell_progress(bool always);
  [[nodiscard]] bool may_lead() const { return clock_.monotonic_ns() < deadline_ns_; }

  const ShardId shard_;
  const std::string node_;
  const Incarnation incarnation_;
  const Clock& clock_;
  const std::unique_ptr<SharedLog> shared_;
  LossyLog& disk_;
  const std::int64_t& deadline_ns_;
  Election& election_;
  const ShardId shards_;
  const ShardMoney money_;
  const SimHostPorts ports_;
  std::unique_ptr<ReplicatedLog> replicated_;
  std::unique_ptr<storage::LedgerWriter> writer_;
  std::unique_ptr<ShardOwner> owner_;
  std::vector<std::function<void()>> tasks_;
  std::optional<std::uint64_t> catching_up_;
  std::uint64_t epoch_ = 0;
  std::uint64_t tail_ = 0;
  BatchCodec codec_;
  bool grew_ = true;
  bool read_to_end_ = false;
  std::int64_t polled_ns_ = 0;
  std::int64_t synced_ns_ = 0;
  std::int64_t told_ns_ = 0;
};

}  // namespace outlast::cluster::simulation
