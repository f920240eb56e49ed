// ClusterPart: what a daemon runs beside the rest when its configuration has [cluster]: the way to etcd, the ClusterNode,
// the listener for nodes that join, and remote actors. Made and ended on the control thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include <caf/actor_system.hpp>

#include "actors/control_channel.hpp"
#include "actors/interfaces.hpp"
#include "actors/remote_actor.hpp"
#include "actors/spend_sharing.hpp"
#include "actors/worker_registry.hpp"
#include "apps/config/cluster_identity.hpp"
#include "apps/config/node_config.hpp"
#include "apps/outlastd/cluster_api.hpp"
#include "cluster/cluster_node.hpp"
#include "cluster/client_listener.hpp"
#include "cluster/enrolment.hpp"
#include "cluster/etcd_client.hpp"
#include "cluster/etcd_coordination.hpp"
#include "cluster/join_listener.hpp"
#include "core/clock.hpp"

namespace outlast::apps {

class ClusterPart {
 public:
  // Whom the data folder belongs to. Reads only. ConfigError::invalid says which command makes it a node's.
  static Result<ClusterIdentity> identity(const NodeConfig& config);
  // The ledger of the cluster, ready. `key_secret`: what all nodes hash virtual keys with.
  static Result<std::unique_ptr<ClusterPart>> start(const NodeConfig& config, const ClusterIdentity& identity,
                                                    const std::string& key_secret, const Clock& clock);
  ~ClusterPart();
  ClusterPart(const ClusterPart&) = delete;
  ClusterPart& operator=(const ClusterPart&) = delete;

  [[nodiscard]] storage::LedgerStore& ledger() { return node_->ledger(); }
  [[nodiscard]] cluster::ClusterNode& node() { return *node_; }
  [[nodiscard]] cluster::ClusterNodeStatus status() const { return node_->status(); }
  // Nothing where none can join here.
  [[nodiscard]] std::optional<cluster::JoinCounters> join_counters() const {
    return join_ ? std::optional(join_->counters()) : std::nullopt;
  }
  [[nodiscard]] const ClusterPort& port() const { return port_; }
  [[nodiscard]] actors::PeerPort& peers() { return *peer_port_; }
  // Null before serve().
  [[nodiscard]] actors::WorkerRegistry* workers() { return workers_.get(); }

  // Once the daemon's actors run. `changed` is called on a thread of the cluster's whenever another node may have changed
  // what this one goes by; must not block.
  using OnChange = std::function<void(const std::shared_ptr<const cluster::ControlView>&, const cluster::ControlChanges&)>;
  // `spend` outlives what stop_serving() ends.
  void serve(caf::actor_system& system, std::function<std::uint64_t()> requests_in_flight, actors::SpendSharing& spend,
             OnChange changed);
  // Before the actor system ends.
  void stop_serving();
  // Clients learn which nodes there are.
  void tell_clients(cluster::ClientListener& listener);
  void drain() { node_->drain(); }
  [[nodiscard]] bool drained() const { return node_->drained(); }
  // The control log says that the node gives its shards away.
  [[nodiscard]] bool draining() const;
  // False once the control log says that the node was removed or revoked.
  [[nodiscard]] bool takes_part() const;

 private:
  ClusterPart(const NodeConfig& config, const Clock& clock) : config_(config), clock_(clock) {}
  Result<void> start_agreement(cluster::Agreement& agreement);
  Result<void> start_join(const std::string& key_secret);
  [[nodiscard]] std::string status_json() const;
  [[nodiscard]] NodeReport report() const;

  class Port;

  const NodeConfig& config_;
  const Clock& clock_;
  std::unique_ptr<cluster::EtcdClient> lease_client_;
  std::unique_ptr<cluster::EtcdClient> client_;
  std::unique_ptr<cluster::EtcdClient> watch_client_;
  std::unique_ptr<cluster::EtcdCoordination> logs_;
  std::unique_ptr<cluster::ClusterNode> node_;
  std::unique_ptr<cluster::Enrolment> enrolment_;
  std::unique_ptr<cluster::JoinListener> join_;
  ClusterPort port_;
  caf::actor_system* system_ = nullptr;
  std::function<std::uint64_t()> requests_in_flight_;
  std::unique_ptr<actors::PeerPort> peer_port_;
  std::unique_ptr<actors::RemoteActors> remote_;
  std::unique_ptr<actors::WorkerRegistry> workers_;
  std::unique_ptr<actors::ControlChannel> channel_;
  actors::ClusterNode actor_;
  std::jthread tick_;  // of the control channel
};

}  // namespace outlast::apps
