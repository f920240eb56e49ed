#include "apps/outlastd/cluster_part.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/remote_interfaces.hpp"
#include "cluster/etcd_coordination.hpp"
#include "core/json_writer.hpp"
#include "core/log.hpp"

namespace outlast::apps {
namespace {

constexpr auto tick_interval = std::chrono::milliseconds(50);
constexpr std::string_view actor_name = "node";

// What other nodes may ask this one.
actors::ClusterNode::behavior_type cluster_node_actor(actors::ClusterNode::pointer,
                                                      const std::function<NodeReport()>& report,
                                                      const std::function<void()>& drain) {
  return {[report](actors::status_atom) { return report(); },
          [drain](actors::drain_atom) -> actors::Done {
            drain();
            return true;
          }};
}

}  // namespace

class ClusterPart::Port final : public actors::PeerPort {
 public:
  explicit Port(cluster::PeerLinks& links) : links_(links) {}
  Result<void> send(const std::string& node, cluster::Channel channel, FramePtr frame) override {
    return links_.send(node, channel, std::move(frame));
  }

 private:
  cluster::PeerLinks& links_;
};

Result<ClusterIdentity> ClusterPart::identity(const NodeConfig& config) {
  auto identity = read_cluster_identity(config.data);
  if (!identity) return fail(identity.error());
  if (!*identity) {
    return fail(ConfigError::invalid, "node.data " + config.data + " belongs to no cluster yet; run `outlast node init --found "
                                      "--config FILE` for the first node, `outlast node join` for others");
  }
  if ((*identity)->step == ClusterIdentity::Step::joining) {
    return fail(ConfigError::invalid, "this node asked to join " + config.cluster.name + " and was not let in; run `outlast "
                                      "node join` again, with a new token");
  }
  return std::move(**identity);
}

Result<std::unique_ptr<ClusterPart>> ClusterPart::start(const NodeConfig& config, const ClusterIdentity& identity,
                                                        const std::string& key_secret, const Clock& clock) {
  std::unique_ptr<ClusterPart> part(new ClusterPart(config, clock));
  auto keys = cluster::load_or_make_curve_keys(std::filesystem::path(config.data) / "zmq.key");
  if (!keys) return fail(keys.error());
  if (const auto good = check_identity(identity, config, keys->public_key); !good) return fail(good.error());
  cluster::Agreement agreement;
  if (const auto connected = part->start_agreement(agreement); !connected) return fail(connected.error());

  cluster::ClusterNodeOptions options;
  options.cluster = config.cluster.name;
  options.node = config.name;
  options.data = config.data;
  options.roles = config.roles;
  options.listen = config.cluster.listen;
  options.advertise = config.cluster.advertise;
  options.keys = *keys;
  options.founder = identity.step == ClusterIdentity::Step::founder;
  options.shards = static_cast<cluster::ShardId>(config.cluster.shards);
  options.replicas = config.cluster.replicas;
  options.lease_ttl_s = config.cluster.lease_ttl_s;
  options.trim_keep = config.cluster.trim_keep;
  options.software = "outlast " OUTLAST_VERSION;
  options.client_endpoint = config.zmq_listen;
  options.client_key = keys->public_key;
  options.disk_free_bytes_min = config.limits.disk_free_bytes_min;
  options.ballast_bytes = config.limits.ballast_bytes;
  auto node = cluster::ClusterNode::start(std::move(options), std::move(agreement), clock);
  if (!node) return fail(node.error());
  part->node_ = std::move(*node);
  part->peer_port_ = std::make_unique<Port>(part->node_->links());
  if (const auto joins = part->start_join(key_secret); !joins) return fail(joins.error());
  part->port_.cluster = config.cluster.name;
  part->port_.public_key = keys->public_key;
  part->port_.status_json = [raw = part.get()] { return raw->status_json(); };
  return part;
}

ClusterPart::~ClusterPart() {
  stop_serving();
  join_.reset();
  enrolment_.reset();
  node_.reset();
}

Result<void> ClusterPart::start_agreement(cluster::Agreement& agreement) {
  cluster::EtcdOptions options;
  options.endpoints = config_.cluster.etcd;
  options.ca_file = config_.cluster.etcd_ca;
  options.certificate_file = config_.cluster.etcd_cert;
  options.key_file = config_.cluster.etcd_key;
  options.call_timeout_ms = config_.cluster.lease_ttl_s * 1'000 / 6;  // a claim may take two calls
  auto lease_client = cluster::EtcdClient::start(options);
  if (!lease_client) return fail(lease_client.error());
  auto client = cluster::EtcdClient::start(options);
  if (!client) return fail(client.error());
  auto watch_client = cluster::EtcdClient::start(options);
  if (!watch_client) return fail(watch_client.error());
  lease_client_ = std::move(*lease_client);
  client_ = std::move(*client);
  watch_client_ = std::move(*watch_client);
  agreement.leases = std::make_unique<cluster::EtcdCoordination>(*lease_client_, config_.cluster.name);
  agreement.calls = std::make_unique<cluster::EtcdCoordination>(*client_, config_.cluster.name);
  agreement.watch = std::make_unique<cluster::EtcdCoordination>(*watch_client_, config_.cluster.name);
  agreement.end_watch = [this] { watch_client_.reset(); };
  logs_ = std::make_unique<cluster::EtcdCoordination>(*client_, config_.cluster.name);
  agreement.log = [this](cluster::ShardId shard) { return logs_->log(shard); };
  return {};
}

Result<void> ClusterPart::start_join(const std::string& key_secret) {
  if (config_.cluster.join_listen.empty()) return {};
  const auto keys = cluster::load_or_make_curve_keys(std::filesystem::path(config_.data) / "zmq.key");
  if (!keys) return fail(keys.error());
  enrolment_ = std::make_unique<cluster::Enrolment>(node_->ledger(), clock_, config_.cluster.name, key_secret);
  auto started = cluster::JoinListener::start({config_.cluster.join_listen, keys->secret_key, {}}, clock_,
                                              [this](cluster::JoinRequest request, cluster::JoinListener::Answer answer) {
                                                enrolment_->join(std::move(request), std::move(answer));
                                              });
  if (!started) return fail(started.error());
  join_ = std::move(*started);
  port_.join_endpoint = reachable_endpoint(config_.cluster, join_->endpoint());
  return {};
}

void ClusterPart::serve(caf::actor_system& system, std::function<std::uint64_t()> requests_in_flight,
                        actors::SpendSharing& spend, OnChange changed) {
  system_ = &system;
  requests_in_flight_ = std::move(requests_in_flight);
  remote_ = std::make_unique<actors::RemoteActors>(system, *peer_port_, clock_);
  workers_ = std::make_unique<actors::WorkerRegistry>(config_.name, *remote_, *peer_port_);
  channel_ = std::make_unique<actors::ControlChannel>(*remote_, *workers_, &spend);
  actor_ = system.spawn(cluster_node_actor, [this] { return report(); }, [this] { drain(); });
  if (const auto served = remote_->serve(std::string(actor_name), actor_); !served) {
    log::error("node_not_served", {{"error", served.error().message}});
  }
  node_->set_control_channel(
      {[this](const cluster::Peer& peer) { channel_->on_up(peer); },
       [this](const cluster::Peer& peer, const std::string& why) { channel_->on_down(peer, why); },
       [this](const cluster::Peer& peer, const FramePtr& frame) {
         const auto taken = channel_->on_frame(peer, frame);
         if (!taken) log::warning("control_frame_malformed", {{"node", peer.node}, {"error", taken.error().message}});
       }});
  node_->control().listen(std::move(changed));
  tick_ = std::jthread([this](const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any due;
    while (!due.wait_for(lock, stop, tick_interval, [&stop] { return stop.stop_requested(); })) channel_->tick();
  });
}

void ClusterPart::stop_serving() {
  if (channel_ == nullptr) return;
  tick_.request_stop();
  tick_.join();
  node_->control().forget();
  node_->watch_nodes(nullptr);
  node_->set_control_channel({});
  remote_->stop_serving(std::string(actor_name));
  {
    caf::scoped_actor self(*system_);  // its handlers use what goes next
    self->send_exit(actor_, caf::exit_reason::kill);
    self->wait_for(actor_);
  }
  actor_ = nullptr;
  channel_.reset();
  workers_.reset();
  remote_.reset();
}

void ClusterPart::tell_clients(cluster::ClientListener& listener) {
  node_->watch_nodes([&listener](const cluster::CoordinationView& view) {
    link::Nodes nodes;
    nodes.version = view.revision;
    for (const cluster::Presence& presence : view.nodes) {
      if (presence.client_endpoint.empty() || nodes.nodes.size() == link::nodes_max) continue;
      nodes.nodes.push_back({presence.node, presence.client_endpoint, presence.client_key, false});
    }
    const auto told = listener.set_nodes(std::move(nodes));
    if (!told) log::warning("clients_not_told", {{"error", told.error().message}});
  });
}

bool ClusterPart::draining() const {
  const auto view = node_->control().get();
  const MemberRecord* const self = view->members.find(config_.name);
  return self != nullptr && self->state == NodeState::draining;
}

bool ClusterPart::takes_part() const {
  const auto view = node_->control().get();
  const MemberRecord* const self = view->members.find(config_.name);
  return self == nullptr || self->takes_part();
}

NodeReport ClusterPart::report() const {
  const cluster::ClusterNodeStatus status = node_->status();
  NodeReport report;
  report.name = config_.name;
  report.roles = config_.roles;
  report.incarnation = status.incarnation;
  report.software = "outlast " OUTLAST_VERSION;
  report.draining = status.draining;
  report.requests_in_flight = requests_in_flight_();
  for (const cluster::HostStatus& host : status.hosts) {
    report.shards.push_back({host.shard, host.leading, host.applied, host.tail - std::min(host.tail, host.applied)});
  }
  report.workers = workers_->own_workers();
  return report;
}

std::string ClusterPart::status_json() const {
  const cluster::ClusterNodeStatus status = node_->status();
  const auto view = node_->control().get();
  // How far each replica is, by shard and node; this node's own from its hosts.
  std::map<cluster::ShardId, std::map<std::string, std::uint64_t>> replicas;
  std::map<cluster::ShardId, std::uint64_t> tails;
  for (const auto& [name, shards] : status.heard) {
    for (const auto& [shard, applied] : shards) {
      replicas[shard][name] = applied;
      tails[shard] = std::max(tails[shard], applied);
    }
  }
  for (const cluster::HostStatus& host : status.hosts) {
    replicas[host.shard][status.node] = host.applied;
    tails[host.shard] = std::max({tails[host.shard], host.applied, host.tail});
  }
  // What another node lacked when it last said how far it is: the log has grown since.
  const auto lag_of = [&status, &tails](const std::string& name, cluster::ShardId shard, std::uint64_t applied) {
    const auto node = status.behind.find(name);
    if (node != status.behind.end()) {
      if (const auto found = node->second.find(shard); found != node->second.end()) return found->second;
    }
    return tails[shard] - applied;
  };
  const auto present = [&status](const std::string& name) {
    return std::find_if(status.present.begin(), status.present.end(), [&name](const auto& one) { return one.node == name; });
  };
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("cluster").string(config_.cluster.name).key("node").string(status.node);
  json.key("nodes").begin_array();
  for (const MemberRecord& member : view->members.nodes) {
    if (!member.takes_part()) continue;
    const std::string& name = member.enrolled.name;
    const bool up = name == status.node || std::any_of(status.peers.begin(), status.peers.end(),
                                                       [&name](const cluster::Peer& peer) { return peer.node == name; });
    std::uint64_t owned = 0;
    for (const cluster::ShardStatus& shard : status.shards) owned += shard.owner && shard.owner->node == name ? 1 : 0;
    std::optional<std::uint64_t> lag;
    for (const auto& [shard, by_node] : replicas) {
      const auto found = by_node.find(name);
      if (found != by_node.end()) lag = std::max(lag.value_or(0), lag_of(name, shard, found->second));
    }
    json.begin_object().key("name").string(name).key("state").string(name_of(member.state)).key("roles").begin_array();
    for (const std::string& role : member.enrolled.roles) json.string(role);
    json.end_array().key("endpoint").string(member.enrolled.endpoint).key("up").boolean(up).key("version");
    const auto at = present(name);
    if (up && at != status.present.end()) json.string(at->software);
    else json.null();
    json.key("shards_owned").number(owned).key("lag_entries");
    if (lag) json.number(*lag);
    else json.null();
    json.end_object();
  }
  json.end_array().key("shards").begin_array();
  for (const cluster::ShardStatus& shard : status.shards) {
    json.begin_object().key("shard").string(cluster::label_of_shard(shard.shard)).key("owner");
    if (shard.owner) json.string(shard.owner->node);
    else json.null();
    json.key("preferred_owner");
    if (shard.replicas.empty()) json.null();
    else json.string(shard.replicas.front());
    json.key("epoch").number(shard.owner ? shard.owner->epoch : std::uint64_t{0});
    json.key("entries").number(tails[shard.shard]).key("replicas").begin_array();
    std::map<std::string, std::optional<std::uint64_t>> of_shard(replicas[shard.shard].begin(), replicas[shard.shard].end());
    for (const std::string& name : shard.replicas) of_shard.try_emplace(name);  // that nothing was heard of yet
    for (const auto& [name, applied] : of_shard) {
      json.begin_object().key("node").string(name);
      if (applied) json.key("entries").number(*applied).key("lag_entries").number(lag_of(name, shard.shard, *applied));
      else json.key("entries").null().key("lag_entries").null();
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("problems").begin_array();
  for (const cluster::UnopenedShard& shard : status.unopened) {
    json.begin_object().key("shard").string(cluster::label_of_shard(shard.shard)).key("what").string(shard.error);
    json.key("attempts").number(static_cast<std::uint64_t>(shard.attempts)).end_object();
  }
  for (const cluster::HostStatus& host : status.hosts) {
    if (host.problem.empty()) continue;
    json.begin_object().key("shard").string(cluster::label_of_shard(host.shard)).key("what").string(host.problem);
    json.key("attempts").null().end_object();
  }
  for (const cluster::Presence& other : status.present) {
    if (other.replicas == 0 || other.replicas == config_.cluster.replicas) continue;
    json.begin_object().key("shard").null().key("what");
    json.string("node " + other.node + " places " + std::to_string(other.replicas) + " replicas of each shard and this one " + std::to_string(config_.cluster.replicas) +
                ": give [cluster] replicas the same value everywhere, or shards have fewer copies than they seem to");
    json.key("attempts").null().end_object();
  }
  json.end_array();
  const auto healthy = std::count_if(status.agreement.begin(), status.agreement.end(),
                                     [](const cluster::AgreementMember& member) { return member.healthy; });
  json.key("etcd").begin_object();
  json.key("healthy").boolean(static_cast<std::size_t>(healthy) * 2 > status.agreement.size());
  json.key("lease_ttl_s").number(static_cast<std::uint64_t>(config_.cluster.lease_ttl_s));
  json.key("lease_left_ms").number(status.lease_left_ms).key("members").begin_array();
  for (const cluster::AgreementMember& member : status.agreement) {
    json.begin_object().key("url").string(member.endpoint).key("healthy").boolean(member.healthy);
    json.key("leader").boolean(member.leader).key("version").string(member.version);
    json.key("db_bytes").number(member.database_bytes).key("why").string(member.error).end_object();
  }
  json.end_array().end_object().end_object();
  return text;
}

}  // namespace outlast::apps
