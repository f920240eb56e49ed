#include "apps/outlastd/cluster_api.hpp"

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "apps/config/cluster_routes.hpp"
#include "apps/outlastd/admin_statement.hpp"
#include "cluster/join_token.hpp"
#include "cluster/versions.hpp"
#include "core/json_writer.hpp"
#include "storage/node_table.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
using Json = nlohmann::json;
using storage::LedgerError;
using Reply = ClusterApi::Reply;

constexpr std::int64_t token_age_s_default = 3'600;
constexpr std::int64_t token_age_s_min = 60;
constexpr std::int64_t token_age_s_max = storage::join_token_age_ms_max / 1'000;
constexpr auto look_pause = std::chrono::milliseconds(5);
constexpr int token_looks_max = 400;
// What a cluster was founded with: other shards would keep other organisations.
constexpr std::string_view fixed_settings[] = {"shards"};

constexpr std::string_view alone =
    "this node is on its own; to make it the first of a cluster, add [cluster] to its configuration, run "
    "'outlast node init --found' and start it again (docs/cluster.md)";

Reply cluster_refusal(unsigned status, std::string_view message, std::string_view code) {
  Reply reply{status, {}};
  JsonWriter json(reply.body);
  json.begin_object().key("error").begin_object();
  json.key("message").string(message).key("code").string(code).end_object().end_object();
  return reply;
}

Reply unfit(std::string_view message) { return cluster_refusal(400, message, "invalid_request"); }

Reply cluster_refusal(const Error& error) {
  unsigned status = 500;
  for (const auto absent : {LedgerError::unknown_node, LedgerError::bad_token}) {
    if (is(error, absent)) status = 404;
  }
  for (const auto conflict : {LedgerError::taken, LedgerError::key_revoked, LedgerError::last_node,
                              LedgerError::not_enrolled, LedgerError::duplicate}) {
    if (is(error, conflict)) status = 409;
  }
  if (is(error, LedgerError::invalid)) status = 400;
  for (const auto later : {LedgerError::overloaded, LedgerError::unavailable, LedgerError::fenced, LedgerError::stopped,
                           LedgerError::disk_full}) {
    if (is(error, later)) status = 503;
  }
  return cluster_refusal(status, error.message, error.module);
}

Json parse_body(const std::string& body) { return body.empty() ? Json::object() : Json::parse(body, nullptr, false); }

void write_node(JsonWriter& json, const MemberRecord& node) {
  json.begin_object().key("name").string(node.enrolled.name).key("state").string(name_of(node.state));
  json.key("roles").begin_array();
  for (const std::string& role : node.enrolled.roles) json.string(role);
  json.end_array().key("endpoint").string(node.enrolled.endpoint);
  json.key("public_key").string(node.enrolled.public_key);
  json.key("enrolled_ms").number(node.enrolled_ms).key("enrolled_by").string(node.enrolled.by).key("changed_ms");
  if (node.changed_ms != 0) json.number(node.changed_ms);
  else json.null();
  json.key("changed_by").string(node.changed_by).key("reason").string(node.reason).end_object();
}

std::string name_body(const std::string& name, std::string_view key, std::string_view value) {
  std::string body;
  JsonWriter(body).begin_object().key("name").string(name).key(key).string(value).end_object();
  return body;
}

std::optional<NodeState> state_of(std::string_view action) {
  if (action == "drain") return NodeState::draining;
  if (action == "undrain") return NodeState::active;
  if (action == "remove") return NodeState::removed;
  if (action == "revoke") return NodeState::revoked;
  return std::nullopt;
}

asio::awaitable<Reply> at_once(Reply reply) { co_return reply; }

bool leaves(NodeState state) { return state == NodeState::removed || state == NodeState::revoked; }

// Whether without this node nobody would be left to own the shards, the control log among them: nothing could be written
// any more, not even the enrolment of another.
bool keeps_ledger_alone(const MemberRecords& records, std::string_view name) {
  const auto keeps = [](const MemberRecord& node) {
    const auto& roles = node.enrolled.roles;
    return node.takes_part() && std::find(roles.begin(), roles.end(), "ledger") != roles.end();
  };
  const MemberRecord* node = records.find(name);
  return node != nullptr && keeps(*node) && std::count_if(records.nodes.begin(), records.nodes.end(), keeps) == 1;
}

// The rest of a path after a prefix; nothing when it has another.
std::optional<std::string> after(const std::string& name, std::string_view prefix) {
  if (!name.starts_with(prefix) || name.size() == prefix.size()) return std::nullopt;
  return name.substr(prefix.size());
}

}  // namespace

asio::awaitable<Reply> ClusterApi::handle(std::string method, std::string name, std::string body) {
  if (port_ == nullptr) return at_once(cluster_refusal(409, alone, "no_cluster"));
  const bool get = method == "GET";
  if (name == "cluster" && get) return at_once({200, port_->status_json()});
  if (name == "cluster/nodes" && get) return at_once(nodes());
  if (name == "cluster/tokens" && get) return at_once(tokens());
  if (name == "cluster/tokens" && method == "POST") return make_token(std::move(body));
  if (name == "cluster/settings" && get) return at_once(settings());
  if (auto id = after(name, "cluster/tokens/"); id && method == "DELETE") return withdraw_token(std::move(*id));
  if (auto setting_name = after(name, "cluster/settings/")) {
    if (get) return at_once(setting(*setting_name));
    if (method == "PUT") return set_setting(std::move(*setting_name), std::move(body));
  }
  if (const auto path = after(name, "cluster/nodes/"); path && method == "POST") {
    const auto slash = path->rfind('/');
    const auto state = slash == std::string::npos ? std::nullopt : state_of(std::string_view(*path).substr(slash + 1));
    if (state) return change_node(path->substr(0, slash), *state, std::move(body));
  }
  return at_once(cluster_refusal(404, "no such path or method; see docs/admin-api.md", "not_found"));
}

Reply ClusterApi::nodes() const {
  const auto records = ledger_.members();
  if (!records) return cluster_refusal(records.error());
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("cluster").string(port_->cluster).key("nodes").begin_array();
  for (const MemberRecord& node : records->nodes) write_node(json, node);
  json.end_array().end_object();
  return reply;
}

Reply ClusterApi::tokens() const {
  const auto records = ledger_.members();
  if (!records) return cluster_refusal(records.error());
  const std::int64_t now_ms = clock_.wall_ms();
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("tokens").begin_array();
  for (const JoinTokenRecord& record : records->tokens) {
    if (record.token.expires_ms <= now_ms) continue;
    json.begin_object().key("id").string(record.token.id).key("by").string(record.token.by);
    json.key("made_ms").number(record.made_ms).key("expires_ms").number(record.token.expires_ms).end_object();
  }
  json.end_array().end_object();
  return reply;
}

Reply ClusterApi::settings() const {
  const auto records = ledger_.members();
  if (!records) return cluster_refusal(records.error());
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("settings").begin_array();
  for (const auto& [name, value] : records->settings) {
    json.begin_object().key("name").string(name).key("value").string(value).end_object();
  }
  json.end_array().end_object();
  return reply;
}

Reply ClusterApi::setting(const std::string& name) const {
  const auto records = ledger_.members();
  if (!records) return cluster_refusal(records.error());
  const auto found = records->settings.find(name);
  if (found == records->settings.end()) return cluster_refusal(404, "there is no setting of that name", "not_found");
  return {200, name_body(name, "value", found->second)};
}

asio::awaitable<Reply> ClusterApi::make_token(std::string body) {
  const Json parsed = parse_body(body);
  const auto statement = read_statement(parsed);
  std::int64_t age_s = token_age_s_default;
  bool good = statement.has_value();
  if (good && parsed.contains("expires_s")) {
    good = parsed["expires_s"].is_number_integer();
    if (good) age_s = parsed["expires_s"].get<std::int64_t>();
  }
  if (!good || age_s < token_age_s_min || age_s > token_age_s_max) {
    co_return unfit(R"(send {"expires_s": 3600, "by": "…"}; a token lives for )" + std::to_string(token_age_s_min) +
                    " to " + std::to_string(token_age_s_max) + " s, and \"by\" says who asks for it");
  }
  if (port_->join_endpoint.empty()) {
    co_return cluster_refusal(409, "no machine can join by this node; add join_listen under [cluster] to its configuration, or "
                           "ask a node that has it", "no_join_listener");
  }
  const cluster::JoinToken token =
      cluster::make_join_token(port_->cluster, port_->join_endpoint, port_->public_key);
  const std::int64_t expires_ms = clock_.wall_ms() + age_s * 1'000;
  std::string done;
  JsonWriter json(done);
  json.begin_object().key("id").string(token.id).key("token").string(token.text());
  json.key("cluster").string(token.cluster).key("join").string(token.endpoint);
  json.key("expires_ms").number(expires_ms).end_object();
  MemberOperation operation = cluster::record_of(token, expires_ms, statement->by);
  Reply reply = co_await record(std::move(operation), std::move(done));
  // Another node may have written it down. Who joins asks this one, which is to know the token by then.
  asio::steady_timer timer(loop_);
  for (int looks = 0; reply.status == 200 && !knows_token(token.id) && looks < token_looks_max; ++looks) {
    timer.expires_after(look_pause);
    co_await timer.async_wait(asio::use_awaitable);
  }
  co_return reply;
}

asio::awaitable<Reply> ClusterApi::withdraw_token(std::string id) {
  if (!knows_token(id)) co_return cluster_refusal(404, "no join token of that id is open", "not_found");
  std::string done = name_body(id, "state", "withdrawn");
  MemberOperation operation = JoinTokenMade{std::move(id), {}, 0, Statement{}.by};
  co_return co_await record(std::move(operation), std::move(done));
}

bool ClusterApi::knows_token(const std::string& id) const {
  const auto records = ledger_.members();
  return records && std::any_of(records->tokens.begin(), records->tokens.end(),
                                [&id](const JoinTokenRecord& record) { return record.token.id == id; });
}

asio::awaitable<Reply> ClusterApi::change_node(std::string name, NodeState state, std::string body) {
  const Json parsed = parse_body(body);
  const auto statement = read_statement(parsed);
  if (!statement) co_return unfit(R"(send {"by": "…", "reason": "…"} or nothing; )" + std::string(statement_advice));
  if (leaves(state)) {
    const auto records = ledger_.members();
    if (!records) co_return cluster_refusal(records.error());
    if (keeps_ledger_alone(*records, name)) {
      co_return cluster_refusal(409, "'" + name + "' is the last node with role ledger: without it nothing could be written any " +
                                     "more, and none could join; let another node with that role join first", "last_ledger_node");
    }
  }
  std::string done = name_body(name, "state", name_of(state));
  NodeChanged change{std::move(name), state, statement->by, statement->reason};
  if (leaves(state)) co_return co_await record_leave(std::move(change), std::move(done));
  MemberOperation operation = std::move(change);
  co_return co_await record(std::move(operation), std::move(done));
}

bool ClusterApi::is_in_state(const std::string& name, NodeState state) const {
  const auto records = ledger_.members();
  if (!records) return false;
  const MemberRecord* node = records->find(name);
  return node != nullptr && node->state == state;
}

// The control log's owner cuts its link with a node that leaves, often before it has answered it.
asio::awaitable<Reply> ClusterApi::record_leave(NodeChanged operation, std::string done) {
  struct Outcome {
    std::mutex mutex;
    std::optional<Result<void>> result;
  };
  const auto outcome = std::make_shared<Outcome>();
  ledger_.record_member(operation, [outcome](Result<void> result) {
    const std::lock_guard lock(outcome->mutex);
    outcome->result = std::move(result);
  });
  const auto answered = [&outcome] {
    const std::lock_guard lock(outcome->mutex);
    return outcome->result.has_value();
  };
  asio::steady_timer timer(loop_);
  while (!answered() && !is_in_state(operation.name, operation.state)) {
    timer.expires_after(look_pause);
    co_await timer.async_wait(asio::use_awaitable);
  }
  if (answered() && !*outcome->result) co_return cluster_refusal(outcome->result->error());
  co_return Reply{200, std::move(done)};
}

asio::awaitable<Reply> ClusterApi::set_setting(std::string name, std::string body) {
  const Json parsed = parse_body(body);
  const auto statement = read_statement(parsed);
  if (!statement || !parsed.contains("value") || !parsed["value"].is_string()) {
    co_return unfit(R"(send {"value": "…", "by": "…"}; an empty value removes the setting, and )" +
                    std::string(statement_advice));
  }
  if (std::find(std::begin(fixed_settings), std::end(fixed_settings), name) != std::end(fixed_settings)) {
    co_return cluster_refusal(409, "'" + name + "' is as the cluster was founded and does not change", "fixed");
  }
  if (name == cluster::log_format_setting) {
    co_return cluster_refusal(409, "'" + name + "' rises by itself once every node can read the next one", "fixed");
  }
  std::string value = parsed["value"].get<std::string>();
  if (name == routes_setting && !value.empty()) {
    const auto routes = parse_routes(value, "routes", ".", SecretUse::only_checked);
    if (!routes) co_return unfit(routes.error().message);
  }
  std::string done = name_body(name, "state", value.empty() ? "removed" : "set");
  MemberOperation operation = SettingSet{std::move(name), std::move(value), statement->by};
  co_return co_await record(std::move(operation), std::move(done));
}

asio::awaitable<Reply> ClusterApi::record(MemberOperation operation, std::string done) {
  auto initiate = [this](auto handler, MemberOperation wanted) {
    using Handler = decltype(handler);
    auto shared = std::make_shared<Handler>(std::move(handler));
    // The work guard keeps the loop alive until the answer is there.
    auto work = std::make_shared<asio::executor_work_guard<asio::io_context::executor_type>>(loop_.get_executor());
    ledger_.record_member(std::move(wanted), [&loop = loop_, shared, work](Result<void> result) {
      asio::post(loop, [shared, work, result = std::move(result)]() mutable {
        auto taken = std::move(*shared);
        work->reset();
        taken(std::move(result));
      });
    });
  };
  // Named, since gcc 12 frees a temporary of a co_await expression twice.
  auto recorded = asio::async_initiate<const asio::use_awaitable_t<>, void(Result<void>)>(
      std::move(initiate), asio::use_awaitable, std::move(operation));
  const Result<void> result = co_await std::move(recorded);
  if (!result) co_return cluster_refusal(result.error());
  co_return Reply{200, std::move(done)};
}

}  // namespace outlast::apps
