#include "apps/outlastd/daemon.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/accountant_actor.hpp"
#include "actors/ask.hpp"
#include "actors/ledger_meter.hpp"
#include "actors/message_call.hpp"
#include "actors/node_actor.hpp"
#include "actors/router_actor.hpp"
#include "apps/config/cluster_routes.hpp"
#include "apps/config/spend_breaker_config.hpp"
#include "apps/outlastd/certificate_ends.hpp"
#include "apps/outlastd/secrets.hpp"
#include "cluster/curve.hpp"
#include "core/log.hpp"

namespace outlast::apps {
namespace {

constexpr std::size_t admin_token_bytes = 32;
constexpr std::size_t key_secret_bytes = 32;
constexpr std::uint64_t spend_history_entries_max = 131'072;  // about a second to read
constexpr auto start_timeout = std::chrono::seconds(30);

class ActorOutcomeSink final : public gateway::OutcomeSink {
 public:
  explicit ActorOutcomeSink(actors::Node node) : node_(std::move(node)) {}
  void report(gateway::OutcomeBatch batch) override { caf::anon_send(node_, actors::OutcomeReport{std::move(batch)}); }

 private:
  actors::Node node_;
};

// Rate limits that `published` (may be null) has too keep what was taken from them.
Result<std::shared_ptr<const actors::GatewayConfig>> gateway_config(const NodeConfig& config,
                                                                    const gateway::Snapshot* published) {
  auto routing = gateway::RoutingTable::make(config.providers, config.deployments, config.routes);
  if (!routing) return fail(routing.error());
  auto made = std::make_shared<actors::GatewayConfig>();
  made->routing = std::move(*routing);
  made->prices = std::make_shared<const PriceBook>(config.prices);
  made->prices_toml = config.prices_toml;
  made->serving.default_output_tokens_max = config.limits.default_output_tokens_max;
  made->serving.refuse_unpriced = config.refuse_unpriced;
  made->rates = gateway::RateLimiter::make(config.rate_limits, published ? published->rates.get() : nullptr);
  return std::shared_ptr<const actors::GatewayConfig>(std::move(made));
}

// A blocking question, for the start only.
template <class Reply, class Handle, class Message>
Result<Reply> ask_now(caf::actor_system& system, const Handle& actor, Message message) {
  caf::scoped_actor self(system);
  Result<Reply> answer = fail(DaemonError::start_failed, "no answer");
  self->request(actor, start_timeout, std::move(message))
      .receive([&answer](const Reply& reply) { answer = reply; },
               [&answer, &system](const caf::error& error) {
                 answer = fail(DaemonError::start_failed, "an actor did not start: " + system.render(error));
               });
  return answer;
}

void warn_of_fixed_keys(const NodeConfig& running, const NodeConfig& read) {
  const auto warn_if = [](bool changed, const char* key) {
    if (changed) log::warning("reload_ignored", {{"key", key}, {"why", "it needs a restart"}});
  };
  warn_if(running.name != read.name, "node.name");
  warn_if(running.data != read.data, "node.data");
  warn_if(running.roles != read.roles, "node.roles");
  warn_if(running.http_listen != read.http_listen, "http.listen");
  warn_if(running.admin_listen != read.admin_listen, "http.admin_listen");
  warn_if(running.lanes != read.lanes, "http.lanes");
  warn_if(running.tls_cert != read.tls_cert || running.tls_key != read.tls_key, "http.tls_cert, http.tls_key");
  warn_if(running.zmq_listen != read.zmq_listen, "zmq.listen");
  warn_if(running.ledger.archive_after_days != read.ledger.archive_after_days ||
              running.ledger.accept_cut != read.ledger.accept_cut,
          "ledger");
}

}  // namespace

Daemon::Daemon(NodeConfig config)
    : config_(std::move(config)),
      started_ms_(clock_.wall_ms()),
      from_file_(std::make_shared<const NodeConfig>(config_)) {}

Result<std::unique_ptr<Daemon>> Daemon::start(NodeConfig config) {
  std::unique_ptr<Daemon> daemon(new Daemon(std::move(config)));
  warn_of_certificates(daemon->config_, daemon->clock_.wall_ms());
  for (const auto step : {&Daemon::open_ledger, &Daemon::start_actors, &Daemon::start_spend_breakers, &Daemon::start_lanes,
                          &Daemon::start_listener, &Daemon::follow_cluster, &Daemon::welcome_workers}) {
    if (const auto done = ((*daemon).*step)(); !done) return fail(done.error());
  }
  return daemon;
}

// Those who take requests go first, then those who serve them, the ledger last.
Daemon::~Daemon() {
  workers_.reset();
  if (cluster_) cluster_->stop_serving();
  listener_.reset();
  for (const auto& lane : lanes_) lane->stop();
  lanes_.clear();
  outcome_sink_.reset();
  spend_port_.reset();
  spend_sink_.reset();
  peer_spend_sink_.reset();
  if (system_) {
    if (node_) {
      const auto children = ask_now<actors::ChildrenReply>(*system_, node_, actors::children_atom::value);
      caf::anon_send_exit(node_, caf::exit_reason::kill);  // first, so that it does not mourn its children
      if (children && *children) {
        caf::anon_send_exit((*children)->router, caf::exit_reason::kill);
        caf::anon_send_exit((*children)->accountant, caf::exit_reason::kill);
        if ((*children)->spend_breakers) caf::anon_send_exit((*children)->spend_breakers, caf::exit_reason::kill);
      }
    }
    node_ = nullptr;
    system_.reset();
  }
  if (spend_sharing_) spend_sharing_->end();
  cluster_.reset();
  ledger_.reset();
}

Result<void> Daemon::open_ledger() {
  notifier_ = std::make_unique<actors::SpendNotifier>();
  const bool alone = config_.cluster.name.empty();
  std::optional<ClusterIdentity> identity;
  if (!alone) {
    // Before a secret is made: `outlast node join` takes no folder that has one.
    auto known = ClusterPart::identity(config_);
    if (!known) return fail(known.error());
    identity = std::move(*known);
  }
  std::error_code error;
  std::filesystem::create_directories(config_.data, error);
  if (error) return fail(DaemonError::start_failed, "node.data " + config_.data + ": " + error.message());
  const std::filesystem::path data(config_.data);
  // In a cluster the lock of the control shard's store comes later: nothing below is changed where it is there already.
  if (alone) {
    if (auto opened = open_own_ledger(); !opened) return opened;
  }
  auto token = load_or_make_secret(data / "admin.token", admin_token_bytes);
  if (!token) return fail(token.error());
  admin_token_ = std::move(*token);
  auto secret = load_or_make_secret(data / "key.secret", key_secret_bytes);
  if (!secret) return fail(secret.error());
  key_hasher_ = std::make_shared<const HmacSha256>(std::as_bytes(std::span(*secret)));
  Result<void> opened;
  if (identity) {
    auto part = ClusterPart::start(config_, *identity, *secret, clock_);
    if (part) cluster_ = std::move(*part);
    else opened = fail(part.error());
  }
  wipe(*secret);
  return opened;
}

// First of all, so that a second daemon on the same folder touches nothing.
Result<void> Daemon::open_own_ledger() {
  storage::LedgerOptions options;
  options.path = (std::filesystem::path(config_.data) / "ledger").string();
  options.free_bytes_min = config_.limits.disk_free_bytes_min;
  options.ballast_bytes = config_.limits.ballast_bytes;
  options.data = config_.data;
  options.node = config_.name;
  options.archive_after_days = config_.ledger.archive_after_days;
  options.accept_cut_at = config_.ledger.accept_cut;
  auto ledger = storage::LedgerStore::open(options, clock_);
  if (!ledger) return fail(ledger.error());
  ledger_ = std::move(*ledger);
  return {};
}

Result<void> Daemon::start_actors() {
  const auto effective = with_cluster_routes(config_);
  if (!effective) return fail(effective.error());
  auto config = gateway_config(*effective, nullptr);
  if (!config) return fail(config.error());
  // Work stealing lets a message wait for the handler that sent it (facts: 3 ms against 23 µs).
  system_config_.set("scheduler.policy", caf::atom("sharing"));
  system_config_.set("scheduler.max-threads", std::size_t{2});
  system_ = std::make_unique<caf::actor_system>(system_config_);
  actors::NodeDependencies dependencies;
  dependencies.spawn_router = [this](actors::Node::pointer parent) {
    return parent->spawn<caf::monitored>(
        actors::router_actor, actors::RouterDependencies{board_, clock_, key_hasher_, gateway::BreakerPolicy{}});
  };
  dependencies.spawn_accountant = [this](actors::Node::pointer parent, actors::Router router) {
    return parent->spawn<caf::monitored + caf::detached>(
        actors::accountant_actor, actors::AccountantDependencies{ledger(), clock_, key_hasher_, std::move(router)});
  };
  dependencies.spawn_spend_breakers = [this](actors::Node::pointer parent) {
    actors::SpendBreakersDependencies spend{
        spend_board_, clock_, *notifier_, spend_counters_, [this] { return ledger().breakers(); },
        [this](BreakerOperation operation, std::function<void(Result<void>)> done) {
          ledger().record_breaker(std::move(operation), std::move(done));
        },
        [this](const std::function<void(const storage::StoredEntry&)>& visit) {
          return ledger().read_recent(spend_history_entries_max, visit);
        },
        parse_spend_rule, nullptr, nullptr, nullptr};
    if (cluster_) {
      spend.share = [this](const std::vector<gateway::SpendEvent>& events) { spend_sharing_->tell(events); };
      spend.tell_delivered = [this](const std::string& delivery) { spend_sharing_->tell_delivered(delivery); };
      spend.leads = [this] { return cluster_->node().leads(cluster::control_shard); };
    }
    return parent->spawn<caf::monitored + caf::detached>(actors::spend_breakers_actor,
                                                         std::make_shared<actors::SpendBreakersState>(spend));
  };
  dependencies.on_give_up = [] { std::_Exit(70); };  // whoever supervises the daemon starts it anew
  node_ = system_->spawn(actors::node_actor, std::move(dependencies));
  const auto applied = ask_now<actors::Done>(*system_, node_, actors::ApplyConfig{*config});
  if (!applied) return fail(applied.error());
  if (!*applied) return fail(applied->error());
  const auto children = ask_now<actors::ChildrenReply>(*system_, node_, actors::children_atom::value);
  if (!children) return fail(children.error());
  if (!*children) return fail(children->error());
  const auto budgeted =
      ask_now<actors::Done>(*system_, (*children)->router, actors::BudgetsChanged{ledger().budget_book()});
  if (!budgeted) return fail(budgeted.error());
  const auto published = ask_now<actors::Done>(*system_, (*children)->router, actors::KeysChanged{ledger().keys()});
  if (!published) return fail(published.error());
  outcome_sink_ = std::make_unique<ActorOutcomeSink>(node_);
  return {};
}

std::shared_ptr<const gateway::SpendConfig> Daemon::spend_config(const NodeConfig& config) const {
  auto spend = std::make_shared<gateway::SpendConfig>(config.breakers);
  spend->node = config.name;
  if (spend->link_base.empty()) spend->link_base = admin_url_ + "/admin/v1";
  return spend;
}

Result<void> Daemon::start_spend_breakers() {
  admin_url_ = (config_.tls_cert.empty() ? "http://" : "https://") + config_.admin_listen;
  const auto applied = ask_now<actors::Done>(*system_, node_, actors::ApplySpendConfig{spend_config(config_)});
  if (!applied) return fail(applied.error());
  if (!*applied) return fail(applied->error());
  spend_sink_ = std::make_unique<actors::SpendReporter>(node_, spend_counters_);
  if (cluster_) {
    peer_spend_sink_ = std::make_unique<actors::SpendReporter>(node_, spend_counters_, actors::SpendOrigin::peers);
    const auto on_told = [this](std::vector<std::string> deliveries) {
      caf::anon_send(node_, actors::LedgerNews{false, {}, std::move(deliveries)});
    };
    spend_sharing_ = std::make_unique<actors::SpendSharing>(cluster_->peers(), clock_, *peer_spend_sink_, spend_counters_,
                                                            on_told);
  }
  const Digest key = key_hasher_->of("spend breakers know a request again");  // the same after a restart
  gateway::RequestHashKey hash_key{};
  std::memcpy(hash_key.data(), key.data(), sizeof(hash_key));
  spend_port_ = std::make_unique<gateway::SpendPort>(gateway::SpendPort{spend_board_, *spend_sink_, hash_key});
  return {};
}

void Daemon::announce_admin(std::string url) {
  admin_url_ = std::move(url);
  caf::anon_send(node_, actors::ApplySpendConfig{spend_config(config_)});
}

Result<void> Daemon::start_lanes() {
  if (!config_.tls_cert.empty()) {
    tls_ = std::make_unique<http::TlsServerFiles>(http::TlsServerFiles{config_.tls_cert, config_.tls_key});
  }
  std::uint32_t count = config_.lanes;
  if (count == 0) count = std::max(1U, std::thread::hardware_concurrency());
  const std::string host = config_.http_listen.substr(0, config_.http_listen.rfind(':'));
  http_address_ = config_.http_listen;
  for (std::uint32_t i = 0; i < count; ++i) {
    gateway::LaneOptions options{i, config_.limits.http, tls_.get(), {}, &answers_, spend_port_.get()};
    const auto make_meter = [this](boost::asio::io_context& loop) -> std::unique_ptr<gateway::Meter> {
      return std::make_unique<actors::LedgerMeter>(loop, ledger());
    };
    auto lane = std::make_unique<gateway::Lane>(std::move(options), board_, clock_, make_meter, *outcome_sink_);
    const auto port = lane->start(http_address_);
    if (!port) return fail(port.error());
    http_address_ = host + ":" + std::to_string(*port);  // the lanes that follow share the first one's port
    lanes_.push_back(std::move(lane));
  }
  return {};
}

Result<void> Daemon::start_listener() {
  if (config_.zmq_listen.empty()) return {};
  const auto keys = cluster::load_or_make_curve_keys(std::filesystem::path(config_.data) / "zmq.key");
  if (!keys) return fail(keys.error());
  UuidGenerator ids(clock_, secure_seed());
  cluster::ListenerOptions options{config_.zmq_listen, keys->secret_key, config_.name, ids.next(), {}};
  const auto authenticate = [this](std::string_view text) -> std::shared_ptr<const VirtualKey> {
    const auto snapshot = board_.get();
    return snapshot ? snapshot->keys->find(text) : nullptr;
  };
  const auto on_call = [this, next = std::make_shared<std::atomic<std::size_t>>(0)](
                           std::shared_ptr<cluster::ChatCall> call) {
    actors::serve_message_call(*lanes_[next->fetch_add(1) % lanes_.size()], std::move(call));
  };
  auto listener = cluster::ClientListener::start(std::move(options), clock_, authenticate, on_call);
  if (!listener) return fail(listener.error());
  listener_ = std::move(*listener);
  if (cluster_) cluster_->tell_clients(*listener_);
  return {};
}

// The cluster's routes, where it has any, stand instead of the file's.
Result<NodeConfig> Daemon::with_cluster_routes(NodeConfig config) const {
  if (!cluster_) return config;
  const auto view = cluster_->node().control().get();
  const auto toml = view->members.settings.find(std::string(routes_setting));
  if (toml == view->members.settings.end()) return config;
  auto routes = parse_routes(toml->second, "the cluster's routes", config_.data, SecretUse::read);
  if (!routes) return fail(routes.error());
  config.providers = std::move(routes->providers);
  config.deployments = std::move(routes->deployments);
  config.routes = std::move(routes->routes);
  return config;
}

std::shared_ptr<const NodeConfig> Daemon::from_file() {
  const std::lock_guard lock(file_mutex_);
  return from_file_;
}

void Daemon::apply_routes(const cluster::ControlView& view) {
  const auto toml = view.members.settings.find(std::string(routes_setting));
  const std::string text = toml == view.members.settings.end() ? std::string() : toml->second;
  if (text == cluster_routes_) return;
  const auto effective = with_cluster_routes(*from_file());
  const auto config = effective ? gateway_config(*effective, board_.get().get()) : fail(effective.error());
  if (!config) {
    log::error("cluster_routes_refused", {{"error", config.error().message}, {"effect", "the routes before stay"}});
    return;
  }
  cluster_routes_ = text;
  caf::anon_send(node_, actors::ApplyConfig{*config});
  log::info("cluster_routes_applied", {{"routes", effective->routes.size()}});
}

// What other nodes change in the control log reaches this node's actors.
Result<void> Daemon::follow_cluster() {
  if (!cluster_) return {};
  cluster_->serve(*system_, [this] { return requests_in_flight(); }, *spend_sharing_,
                  [this](const std::shared_ptr<const cluster::ControlView>& view, const cluster::ControlChanges& changes) {
                    caf::anon_send(node_, actors::LedgerNews{changes.keys || changes.budgets || changes.commitments,
                                                             changes.breakers, {}});
                    if (changes.settings) apply_routes(*view);
                    if (changes.members) {
                      for (const auto& lane : lanes_) lane->welcome(!cluster_->draining());
                    }
                  });
  return {};
}

Result<void> Daemon::welcome_workers() {
  const bool links = std::find(config_.roles.begin(), config_.roles.end(), "gpu") != config_.roles.end();
  auto part = WorkerPart::start(config_.name, config_.data, *system_, clock_, cluster_ ? cluster_->workers() : nullptr, links);
  if (!part) return fail(std::move(part.error()));
  workers_ = std::move(*part);
  return {};
}

boost::asio::awaitable<Result<void>> Daemon::reload(boost::asio::io_context& loop) {
  auto from_file = load_node_config(config_.file);
  if (!from_file) co_return fail(from_file.error());
  {
    const std::lock_guard lock(file_mutex_);
    from_file_ = std::make_shared<const NodeConfig>(*from_file);
  }
  const auto read = with_cluster_routes(std::move(*from_file));
  if (!read) co_return fail(read.error());
  const auto config = gateway_config(*read, board_.get().get());
  if (!config) co_return fail(config.error());
  warn_of_fixed_keys(config_, *read);
  actors::ApplyConfig message{*config};  // named: gcc 12 frees a temporary of a co_await expression twice
  const auto applied = co_await actors::ask<actors::Done>(loop, *system_, node_, actors::request_timeout,
                                                          std::move(message));
  if (!applied) co_return fail(applied.error());
  if (!*applied) co_return fail(applied->error());
  config_.breakers = read->breakers;
  actors::ApplySpendConfig spend{spend_config(config_)};
  const auto breakers = co_await actors::ask<actors::Done>(loop, *system_, node_, actors::request_timeout,
                                                           std::move(spend));
  if (!breakers) co_return fail(breakers.error());
  if (!*breakers) co_return fail(breakers->error());
  log::info("reloaded", {{"file", config_.file}, {"routes", read->routes.size()}, {"deployments", read->deployments.size()},
                         {"prices", read->prices.version()}});
  co_return Result<void>{};
}

void Daemon::drain() {
  draining_ = true;
  for (const auto& lane : lanes_) lane->drain();
  if (listener_) listener_->drain();
  if (cluster_) cluster_->drain();
}

std::uint64_t Daemon::connections_open() const {
  std::uint64_t count = 0;
  for (const auto& lane : lanes_) count += lane->metrics().connections_open.value();
  return count;
}

std::uint64_t Daemon::requests_in_flight() const {
  std::uint64_t count = listener_ ? listener_->counters().calls_in_flight : 0;
  for (const auto& lane : lanes_) count += lane->requests_in_flight();
  return count;
}

}  // namespace outlast::apps
