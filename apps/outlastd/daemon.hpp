// Daemon: everything that one node runs, wired: ledger, actors, lanes and the listener for client actors.
// Made and ended on the control thread.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>

#include "actors/interfaces.hpp"
#include "actors/spend_breakers_actor.hpp"
#include "actors/spend_reporter.hpp"
#include "actors/spend_sharing.hpp"
#include "apps/config/node_config.hpp"
#include "apps/outlastd/cluster_part.hpp"
#include "apps/outlastd/worker_part.hpp"
#include "cluster/client_listener.hpp"
#include "core/clock.hpp"
#include "core/crypto.hpp"
#include "gateway/idempotency.hpp"
#include "gateway/lane.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::apps {

// Append-only.
enum class DaemonError : std::uint16_t { start_failed = 1, not_reloadable = 2 };

class Daemon {
 public:
  // Ready when this returns: the ledger is recovered, keys and routes are published, every listener is bound.
  static Result<std::unique_ptr<Daemon>> start(NodeConfig config);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Reads the configuration file again and publishes its routes, providers and prices; requests under way keep what
  // they started with. Refuses a file that is wrong and changes nothing then. What cannot change while running
  // (listeners, data, limits) is logged and ignored.
  boost::asio::awaitable<Result<void>> reload(boost::asio::io_context& loop);

  // No new connections, requests or calls; those under way go on.
  void drain();
  [[nodiscard]] std::uint64_t requests_in_flight() const;
  // Of callers, by HTTP; as of some milliseconds ago.
  [[nodiscard]] std::uint64_t connections_open() const;
  [[nodiscard]] bool draining() const { return draining_; }
  // Callers are to come here: it does not stop, and nobody has it drained.
  [[nodiscard]] bool ready() const { return !draining_ && !(cluster_ && cluster_->draining()); }
  // Other nodes own what this one did; true for a node on its own.
  [[nodiscard]] bool shards_handed_over() const { return !cluster_ || cluster_->drained(); }

  [[nodiscard]] const NodeConfig& config() const { return config_; }
  [[nodiscard]] storage::LedgerStore& ledger() { return cluster_ ? cluster_->ledger() : *ledger_; }
  // Null for a node on its own.
  [[nodiscard]] ClusterPart* cluster() { return cluster_.get(); }
  [[nodiscard]] const ClusterPart* cluster() const { return cluster_.get(); }
  // The GPU workers of this node and, in a cluster, of all others.
  [[nodiscard]] actors::WorkerRegistry& workers() { return workers_->registry(); }
  [[nodiscard]] caf::actor_system& system() { return *system_; }
  [[nodiscard]] const actors::Node& node() const { return node_; }
  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] const gateway::SnapshotBoard& board() const { return board_; }
  [[nodiscard]] const std::vector<std::unique_ptr<gateway::Lane>>& lanes() const { return lanes_; }
  [[nodiscard]] const cluster::ClientListener* listener() const { return listener_.get(); }
  [[nodiscard]] const std::string& admin_token() const { return admin_token_; }
  [[nodiscard]] const http::TlsServerFiles* tls() const { return tls_ ? tls_.get() : nullptr; }
  // "127.0.0.1:8080", with the port that was taken.
  [[nodiscard]] const std::string& http_address() const { return http_address_; }
  [[nodiscard]] std::int64_t started_ms() const { return started_ms_; }
  [[nodiscard]] const actors::SpendCounters& spend_counters() const { return spend_counters_; }
  [[nodiscard]] const actors::SpendNotifier& notifier() const { return *notifier_; }
  // The admin interface's URL, once it is bound: links of spend breakers point there, unless the file says otherwise.
  void announce_admin(std::string url);

 private:
  explicit Daemon(NodeConfig config);
  Result<void> open_ledger();
  Result<void> open_own_ledger();
  Result<void> follow_cluster();
  Result<void> welcome_workers();
  [[nodiscard]] std::shared_ptr<const NodeConfig> from_file();
  [[nodiscard]] Result<NodeConfig> with_cluster_routes(NodeConfig config) const;
  void apply_routes(const cluster::ControlView& view);
  Result<void> start_actors();
  Result<void> start_spend_breakers();
  [[nodiscard]] std::shared_ptr<const gateway::SpendConfig> spend_config(const NodeConfig& config) const;
  Result<void> start_lanes();
  Result<void> start_listener();

  NodeConfig config_;
  SystemClock clock_;
  std::int64_t started_ms_;
  std::string admin_token_;
  std::unique_ptr<http::TlsServerFiles> tls_;
  std::shared_ptr<const HmacSha256> key_hasher_;
  gateway::SnapshotBoard board_;
  gateway::AnswerCache answers_;
  gateway::SpendBoard spend_board_;
  actors::SpendCounters spend_counters_;
  std::unique_ptr<actors::SpendSharing> spend_sharing_;  // in a cluster; before the notifier, which says what it delivered
  std::unique_ptr<actors::SpendNotifier> notifier_;  // before the ledger, whose committer tells it what is durable
  std::unique_ptr<storage::LedgerStore> ledger_;  // of a node on its own; else null
  std::unique_ptr<ClusterPart> cluster_;
  caf::actor_system_config system_config_;
  std::unique_ptr<caf::actor_system> system_;
  actors::Node node_;
  std::unique_ptr<gateway::OutcomeSink> outcome_sink_;
  std::unique_ptr<actors::SpendReporter> spend_sink_;
  std::unique_ptr<actors::SpendReporter> peer_spend_sink_;  // in a cluster
  std::unique_ptr<gateway::SpendPort> spend_port_;
  std::vector<std::unique_ptr<gateway::Lane>> lanes_;
  std::unique_ptr<cluster::ClientListener> listener_;
  std::unique_ptr<WorkerPart> workers_;
  std::string http_address_;
  std::string admin_url_;
  std::string cluster_routes_;  // that are applied; of the control shard's thread
  std::mutex file_mutex_;       // of the next: what the file says, as it was read last
  std::shared_ptr<const NodeConfig> from_file_;
  bool draining_ = false;
};

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::DaemonError> = "daemon";
}  // namespace outlast
