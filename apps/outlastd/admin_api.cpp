#include "apps/outlastd/admin_api.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "actors/ask.hpp"
#include "apps/config/price_book_writer.hpp"
#include "apps/outlastd/admin_query.hpp"
#include "apps/outlastd/metrics_text.hpp"
#include "apps/outlastd/rate_limit_json.hpp"
#include "apps/report/report_error.hpp"
#include "apps/report/usage_json.hpp"
#include "core/crypto.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
using actors::ask;

constexpr std::string_view api_prefix = "/admin/v1/";
constexpr std::size_t key_name_max = 200;

}  // namespace

unsigned admin_status_of(const Error& error) {
  using storage::LedgerError;
  for (const auto absent : {LedgerError::unknown_key, LedgerError::unknown_budget, LedgerError::unknown_commitment}) {
    if (is(error, absent)) return 404;
  }
  if (is(error, LedgerError::invalid)) return 400;
  if (is(error, LedgerError::overlap) || is(error, LedgerError::duplicate)) return 409;
  if (is(error, LedgerError::disk_full) || is(error, LedgerError::overloaded) || is(error, LedgerError::unavailable)) return 503;
  if (is(error, ReportError::not_found)) return 404;
  if (is(error, ReportError::stopped) || is(error, ReportError::busy)) return 503;
  for (const std::string_view callers : {"config", "routing", "tenant", "scope", "request", "report"}) {
    if (error.module == callers) return 400;
  }
  if (error.module == "actors") return 503;
  return 500;
}

namespace {

void write_key(JsonWriter& json, const VirtualKey& key) {
  json.begin_object().key("id").string(key.id).key("tenant").string(key.tenant.to_string());
  json.key("name").string(key.name).key("created_ms").number(key.created_ms).key("revoked_ms");
  if (key.revoked_ms) json.number(*key.revoked_ms);
  else json.null();
  json.end_object();
}

}  // namespace

std::string admin_error_body(std::string_view message, std::string_view code) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("error").begin_object();
  json.key("message").string(message).key("code").string(code).end_object().end_object();
  return body;
}

namespace {

struct Refused {
  unsigned status;
  std::string body;
};

Refused refused(const Error& error) { return {admin_status_of(error), admin_error_body(error.message, error.module)}; }

}  // namespace

AdminApi::Answer AdminApi::error_answer(const Error& error) {
  auto [status, body] = refused(error);
  return {status, std::move(body)};
}

asio::awaitable<void> AdminApi::handle(http::Request& request, http::Response& response) {
  Answer answer;
  const std::string_view path = request.path();
  const bool get = request.method == "GET";
  if (path == "/healthz" && get) {
    answer.body = R"({"status":"ok"})";
  } else if (path == "/readyz" && get) {
    const bool ready = daemon_.ready();
    answer.status = ready ? 200 : 503;
    answer.body = ready ? R"({"status":"ready"})" : R"({"status":"draining"})";
  } else if (path == "/metrics" && get) {
    answer = co_await metrics();
  } else if (!path.starts_with(api_prefix)) {
    answer.status = 404;
    answer.body = admin_error_body("no such path; see docs/admin-api.md", "not_found");
  } else if (!authorised(request)) {
    answer.status = 401;
    answer.body = admin_error_body(
        "send the node's token as 'Authorization: Bearer …'; it stands in DATA/admin.token", "unauthorised");
  } else {
    answer = co_await route(request);
  }
  std::vector<http::HeaderField> headers{{"content-type", answer.type}, {"cache-control", "no-store"}};
  if (!answer.next_index.empty()) headers.push_back({"x-outlast-next-index", answer.next_index});
  const auto sent = co_await response.send(answer.status, headers, answer.body);
  static_cast<void>(sent);
}

bool AdminApi::authorised(const http::Request& request) const {
  constexpr std::string_view scheme = "Bearer ";
  const std::string_view header = request.header("authorization");
  return header.starts_with(scheme) && constant_time_equal(header.substr(scheme.size()), daemon_.admin_token());
}

asio::awaitable<AdminApi::Answer> AdminApi::route(const http::Request& request) {
  const std::string_view name = request.path().substr(api_prefix.size());
  const bool get = request.method == "GET";
  const bool post = request.method == "POST";
  if (name == "status" && get) return status();
  if (name == "deployments" && get) return deployments();
  if (name == "prices" && get) return prices();
  if (name == "keys" && get) return list_keys();
  if (name == "keys" && post) return create_key(request.body);
  if (name.starts_with("keys/") && request.method == "DELETE") return revoke_key(std::string(name.substr(5)));
  if (name == "usage" && get) return usage(request.query());
  if (name == "reconcile" && post) return reconcile(request.query(), std::string(request.body));
  if (name == "reprice" && post) return reprice(request.query(), std::string(request.body));
  if (name == "ledger/entries" && get) return entries(request.query());
  if (name == "ledger/verify" && post) return verify(request.query());
  if (name == "ledger/backup" && post) return backup(request.body);
  if (name == "ledger/heads" && get) {
    const auto heads = [](AdminApi* api) -> asio::awaitable<Answer> { co_return api->ledger_heads(); };
    return heads(this);
  }
  if (name == "config/reload" && post) return reload();
  if (name.starts_with("breaker")) return breakers(request, name);
  if (name == "workers" || name.starts_with("workers/")) return workers(request, name);
  if (name == "cluster" || name.starts_with("cluster/")) return cluster(request, name);
  if (name.starts_with("budgets") || name.starts_with("commitments")) return money(request, name);
  if (name == "rate-limits" && get) return rate_limits();
  const auto unknown = []() -> asio::awaitable<Answer> {
    co_return Answer{404, admin_error_body("no such path or method; see docs/admin-api.md", "not_found")};
  };
  return unknown();
}

asio::awaitable<Result<actors::Children>> AdminApi::children() {
  auto reply = co_await ask<actors::ChildrenReply>(loop_, daemon_.system(), daemon_.node(), actors::request_timeout,
                                                   actors::children_atom::value);
  co_return flatten(std::move(reply));
}

asio::awaitable<Result<actors::DeploymentList>> AdminApi::deployment_list() {
  const auto actors = co_await children();
  if (!actors) co_return fail(actors.error());
  co_return co_await ask<actors::DeploymentList>(loop_, daemon_.system(), actors->router, actors::request_timeout,
                                                 actors::status_atom::value);
}

asio::awaitable<AdminApi::Answer> AdminApi::metrics() {
  const auto list = co_await deployment_list();
  Answer answer;
  answer.type = "text/plain; version=0.0.4; charset=utf-8";
  answer.body = metrics_text(daemon_, daemon_.ledger().status(), list ? *list : actors::DeploymentList{});
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::status() {
  const auto ledger = daemon_.ledger().status();
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("node").string(daemon_.config().name);
  if (daemon_.cluster() != nullptr) json.key("cluster").string(daemon_.config().cluster.name);
  json.key("state").string(daemon_.ready() ? "ready" : "draining");
  json.key("version").string(OUTLAST_VERSION).key("pid").number(static_cast<std::int64_t>(getpid()));
  json.key("uptime_s").number((daemon_.clock().wall_ms() - daemon_.started_ms()) / 1000);
  json.key("lanes").number(static_cast<std::uint64_t>(daemon_.lanes().size()));
  json.key("requests_in_flight").number(daemon_.requests_in_flight());
  json.key("prices").string(daemon_.board().get()->prices->version());
  json.key("ledger").begin_object();
  json.key("entries").number(ledger.entries).key("open_reservations").number(ledger.open_reservations);
  json.key("queued_operations").number(ledger.queued_operations).key("batches").number(ledger.batches);
  json.key("free_bytes").number(ledger.free_bytes).key("disk_full").boolean(ledger.disk_full);
  json.key("in_doubt_settled").number(ledger.in_doubt_settled);
  json.end_object().end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::prices() {
  const auto prices = daemon_.board().get()->prices;
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("version").string(prices->version());
  json.key("toml").string(write_price_book(*prices, "")).end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::deployments() {
  const auto list = co_await deployment_list();
  if (!list) {
    auto [status, body] = refused(list.error());
    co_return Answer{status, std::move(body)};
  }
  const auto snapshot = daemon_.board().get();
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("deployments").begin_array();
  for (const gateway::Deployment& deployment : snapshot->routing->deployments()) {
    const auto found = std::find_if(list->begin(), list->end(),
                                    [&](const auto& status) { return status.name == deployment.name; });
    if (found == list->end()) continue;
    json.begin_object().key("name").string(deployment.name).key("provider").string(deployment.provider);
    json.key("model").string(deployment.model).key("priority").number(deployment.priority);
    json.key("weight").number(deployment.weight).key("state").string(gateway::name_of(found->breaker));
    json.key("open_for_ms").number(found->open_for_ms).key("in_flight").number(found->in_flight);
    json.key("max_concurrency").number(deployment.max_concurrency);
    json.key("consecutive_failures").number(found->consecutive_failures);
    json.key("successes").number(found->successes).key("failures").number(found->failures);
    json.key("openings").number(found->openings).end_object();
  }
  json.end_array().end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::list_keys() {
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("keys").begin_array();
  for (const VirtualKey& key : daemon_.ledger().keys()) write_key(json, key);
  json.end_array().end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::create_key(std::string_view body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("tenant") || !parsed["tenant"].is_string() ||
      (parsed.contains("name") && !parsed["name"].is_string())) {
    co_return Answer{400, admin_error_body(R"(send {"tenant": "ORG/TEAM/USER", "name": "…"})", "invalid_request")};
  }
  const auto tenant = TenantPath::parse(parsed["tenant"].get<std::string>());
  const std::string name = parsed.value("name", "");
  if (!tenant || name.size() > key_name_max) {
    co_return Answer{400, admin_error_body(tenant ? "a key's name has at most 200 bytes" : tenant.error().message,
                                           "invalid_request")};
  }
  const auto actors = co_await children();
  Result<actors::CreatedKey> created = fail(actors::ActorError::unavailable, "");
  if (actors) {
    actors::CreateKey message{*tenant, name};  // named: gcc 12 frees a temporary of a co_await expression twice
    auto reply = co_await ask<actors::CreatedKeyReply>(loop_, daemon_.system(), actors->accountant,
                                                       actors::request_timeout, std::move(message));
    created = flatten(std::move(reply));
  } else {
    created = fail(actors.error());
  }
  if (!created) {
    auto [status, refusal] = refused(created.error());
    co_return Answer{status, std::move(refusal)};
  }
  Answer answer;
  JsonWriter json(answer.body);
  json.begin_object().key("id").string(created->key.id).key("key").string(created->text);
  json.key("tenant").string(tenant->to_string()).key("name").string(name).end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::revoke_key(std::string id) {
  const auto actors = co_await children();
  Result<bool> done = true;
  if (actors) {
    actors::RevokeKey message{id};
    auto reply = co_await ask<actors::Done>(loop_, daemon_.system(), actors->accountant, actors::request_timeout,
                                            std::move(message));
    done = flatten(std::move(reply));
  } else {
    done = fail(actors.error());
  }
  if (!done) {
    auto [status, body] = refused(done.error());
    co_return Answer{status, std::move(body)};
  }
  Answer answer;
  JsonWriter(answer.body).begin_object().key("id").string(id).key("revoked").boolean(true).end_object();
  co_return answer;
}

asio::awaitable<AdminApi::Answer> AdminApi::breakers(const http::Request& request, std::string_view name) {
  std::string method(request.method);  // named: gcc 12 frees a temporary of a co_await expression twice
  std::string path(name);
  std::string body(request.body);
  auto reply = co_await breakers_.handle(std::move(method), std::move(path), std::move(body));
  co_return Answer{reply.status, std::move(reply.body)};
}

asio::awaitable<AdminApi::Answer> AdminApi::cluster(const http::Request& request, std::string_view name) {
  std::string method(request.method);
  std::string path(name);
  std::string body(request.body);
  auto reply = co_await cluster_.handle(std::move(method), std::move(path), std::move(body));
  co_return Answer{reply.status, std::move(reply.body)};
}

asio::awaitable<AdminApi::Answer> AdminApi::workers(const http::Request& request, std::string_view name) {
  std::string method(request.method);
  std::string path(name);
  std::string query(request.query());
  std::string body(request.body);
  auto reply = co_await workers_.handle(std::move(method), std::move(path), std::move(query), std::move(body));
  co_return Answer{reply.status, std::move(reply.body), reply.type, {}};
}

asio::awaitable<AdminApi::Answer> AdminApi::rate_limits() {
  const auto snapshot = daemon_.board().get();
  const bool limited = snapshot && snapshot->rates;
  co_return Answer{200, rate_limits_json(limited ? snapshot->rates->status(daemon_.clock().monotonic_ns())
                                                 : std::vector<gateway::RateLimitStatus>())};
}

asio::awaitable<AdminApi::Answer> AdminApi::reload() {
  const auto done = co_await daemon_.reload(loop_);
  if (!done) {
    auto [status, body] = refused(done.error());
    co_return Answer{status, std::move(body)};
  }
  co_return Answer{200, R"({"ok":true})"};
}

}  // namespace outlast::apps
