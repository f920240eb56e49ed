// EtcdCoordination: leases, presences and owners in etcd (etcd_keys.hpp tells where). An owner key lives on its node's
// lease; its create_revision is the epoch, which every append compares.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cluster/coordination.hpp"
#include "cluster/etcd_client.hpp"
#include "cluster/etcd_keys.hpp"

namespace outlast::cluster {

// Any thread.
class EtcdCoordination final : public Coordination {
 public:
  static constexpr std::uint32_t ttl_s_min = 2;
  static constexpr std::uint32_t ttl_s_max = 600;

  // `client` outlives this and its logs; what is given to watch() is called until the client ends.
  EtcdCoordination(EtcdClient& client, std::string_view cluster);

  Result<LeaseId> start_lease(std::uint32_t ttl_s, const Presence& presence) override;
  Result<void> update(LeaseId lease, const Presence& presence) override;
  Result<void> keep_alive(LeaseId lease) override;
  Result<void> end_lease(LeaseId lease) override;
  // An answer that got lost is looked for. `unknown` only when it can still happen.
  Result<std::uint64_t> claim(ShardId shard, LeaseId lease, const Presence& me) override;
  Result<void> release(ShardId shard, std::uint64_t epoch) override;
  Result<CoordinationView> view() override;
  std::unique_ptr<SharedLog> log(ShardId shard) override;
  void watch(std::function<void()> view_changed, std::function<void(ShardId)> log_grew) override;
  std::vector<AgreementMember> members() override;
  Result<void> compact() override;

 private:
  // The logs that were asked for.
  struct WatchedLogs {
    std::mutex mutex;
    std::set<ShardId> shards;
  };
  Result<void> put_presence(LeaseId lease, const Presence& presence, bool first);
  Result<std::uint64_t> settle_claim(const EtcdTxnAnswer& answer, LeaseId lease, ShardId shard);

  EtcdClient& client_;
  const EtcdKeys keys_;
  const std::shared_ptr<WatchedLogs> logs_;  // also the watch's, which ends with the client
};

}  // namespace outlast::cluster
