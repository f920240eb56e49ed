// ClusterLedger: a cluster's ledger as gateway and actors see it: the same LedgerStore as that of a node on its own.
// Requests go to their organisation's shard by the node's Holder; what all nodes go by goes to the control shard; reports
// read this node's replicas.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cluster/control_view.hpp"
#include "cluster/holder.hpp"
#include "cluster/shard_host.hpp"
#include "storage/disk_guard.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::cluster {

struct ClusterLedgerDependencies {
  Holder& holder;
  ControlBoard& control;
  storage::DiskGuard& disk;
  ShardId shards = 1;
  // The replicas of this node, by shard, the control shard last; each stays valid while it is held.
  std::function<std::vector<std::shared_ptr<ShardHost>>()> hosts;
};

// Any thread.
class ClusterLedger final : public storage::LedgerStore {
 public:
  explicit ClusterLedger(ClusterLedgerDependencies dependencies) : dependencies_(std::move(dependencies)) {}

  std::unique_ptr<storage::LedgerSubmitter> make_submitter(
      std::function<void(std::uint64_t)> on_durable,
      std::function<void(std::uint64_t, const storage::Refused&)> on_refused) override;
  [[nodiscard]] std::size_t ticket_groups() const override { return Holder::ticket_groups(dependencies_.shards); }

  void add_key(VirtualKey key, std::function<void(Result<void>)> done) override;
  void revoke_key(std::string key_id, std::function<void(Result<void>)> done) override;
  void record_prices(std::string version, std::string toml, std::function<void(Result<void>)> done) override;
  [[nodiscard]] std::vector<VirtualKey> keys() const override;
  // A budget of a tag, a model or a provider crosses shards: invalid unless there is one shard only.
  void set_budget(Budget budget, std::string by, std::function<void(Result<void>)> done) override;
  void remove_budget(std::string id, std::string by, std::function<void(Result<void>)> done) override;
  [[nodiscard]] std::vector<BudgetStatus> budgets() const override;
  [[nodiscard]] std::shared_ptr<const BudgetBook> budget_book() const override;
  // As budgets that cross shards.
  void add_commitment(Commitment commitment, std::string by, std::function<void(Result<void>)> done) override;
  void end_commitment(std::string id, std::string by, std::function<void(Result<void>)> done) override;
  [[nodiscard]] std::vector<CommitmentStatus> commitments() const override;
  void record_breaker(BreakerOperation operation, std::function<void(Result<void>)> done) override;
  [[nodiscard]] Result<BreakerRecords> breakers() const override;
  void record_member(MemberOperation operation, std::function<void(Result<void>)> done) override;
  [[nodiscard]] Result<MemberRecords> members() const override;

  // Of all shards. Error: unavailable, when some have no replica on this node.
  Result<storage::UsageReport> usage(const storage::UsageQuery& query) const override;
  [[nodiscard]] Result<std::vector<storage::AccountBalance>> accounts() const override;
  // Every shard after another, the control shard last: an index counts within its shard.
  Result<void> read(std::uint64_t from,
                    const std::function<bool(const storage::StoredEntry&)>& visit) const override;
  // Of every shard that is here, so many.
  Result<void> read_recent(std::uint64_t entries,
                           const std::function<void(const storage::StoredEntry&)>& visit) const override;
  // Of one shard, as this and the next two. Error: unavailable, when it has no replica on this node.
  Result<void> read_shard(ShardId shard, std::uint64_t from,
                          const std::function<bool(const storage::StoredEntry&)>& visit) const;
  Result<storage::VerifyReport> verify_shard(ShardId shard) const;
  Result<storage::BackupReport> backup_shard(ShardId shard, const std::string& folder, std::uint32_t keep) const;
  // Of every shard that is here: the first that is damaged, or sums, with the control shard's head.
  Result<storage::VerifyReport> verify() const override;
  [[nodiscard]] Result<std::vector<std::unique_ptr<storage::LedgerView>>> views() const override;
  [[nodiscard]] Status status() const override;

 private:
  [[nodiscard]] Result<void> check_crossing(const std::string& what) const;
  void record(ShardId shard, proto::EntryBody body, std::function<void(Result<void>)> done);
  [[nodiscard]] Result<std::vector<std::shared_ptr<ShardHost>>> all_hosts() const;
  [[nodiscard]] std::shared_ptr<ShardHost> host_of(ShardId shard) const;
  [[nodiscard]] Result<std::shared_ptr<ShardHost>> replica_of(ShardId shard) const;

  const ClusterLedgerDependencies dependencies_;
};

}  // namespace outlast::cluster
