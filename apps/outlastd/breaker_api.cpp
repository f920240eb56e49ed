#include "apps/outlastd/breaker_api.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "actors/ask.hpp"
#include "apps/config/spend_breaker_config.hpp"
#include "apps/outlastd/admin_api.hpp"
#include "apps/outlastd/admin_statement.hpp"
#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

namespace asio = boost::asio;
using actors::ask;
using Json = nlohmann::json;

constexpr std::string_view breakers_path = "breakers";
constexpr std::string_view rules_path = "breaker-rules";

BreakerApi::Reply breaker_refusal(unsigned status, std::string_view message, std::string_view code = "invalid_request") {
  return {status, admin_error_body(message, code)};
}

unsigned breaker_status_of(const Error& error) {
  if (is(error, actors::ActorError::not_found) || is(error, storage::LedgerError::unknown_breaker)) return 404;
  if (is(error, actors::ActorError::refused) || is(error, storage::LedgerError::invalid)) return 400;
  if (error.module == "actors" || is(error, storage::LedgerError::overloaded)) return 503;
  return 500;
}

BreakerApi::Reply breaker_refusal(const Error& error) { return breaker_refusal(breaker_status_of(error), error.message, error.module); }

void write_breaker(JsonWriter& json, const actors::BreakerStatus& status) {
  const BreakerTripped& trip = status.trip;
  json.begin_object().key("id").string(trip.id).key("rule").string(trip.rule).key("scope").string(trip.scope);
  json.key("session").string(trip.session).key("action").string(name_of(trip.action));
  json.key("state").string(gateway::name_of(status.state)).key("why").string(trip.why);
  json.key("since_ms").number(status.since_ms).key("half_opens_in_ms");
  if (status.half_opens_in_ms) json.number(*status.half_opens_in_ms);
  else json.null();
  json.key("link").string(status.link).end_object();
}

}  // namespace

asio::awaitable<BreakerApi::Reply> BreakerApi::handle(std::string method, std::string name, std::string body) {
  const bool get = method == "GET";
  const bool post = method == "POST";
  constexpr std::string_view reset_suffix = "/reset";
  if (name == breakers_path && get) return list();
  if (name == rules_path && get) return rules();
  if (name == rules_path && post) return add_rule(std::move(body));
  if (name.starts_with("breaker-rules/") && method == "DELETE") {
    return remove_rule(name.substr(rules_path.size() + 1), std::move(body));
  }
  if (name.starts_with("breakers/")) {
    std::string id = name.substr(breakers_path.size() + 1);
    if (get) return show(std::move(id));
    if (post && id.ends_with(reset_suffix)) {
      id.resize(id.size() - reset_suffix.size());
      return reset(std::move(id), std::move(body));
    }
  }
  const auto unknown = []() -> asio::awaitable<Reply> {
    co_return breaker_refusal(404, "no such path or method; see docs/admin-api.md", "not_found");
  };
  return unknown();
}

asio::awaitable<Result<actors::BreakerReport>> BreakerApi::report() {
  auto children = co_await ask<actors::ChildrenReply>(loop_, daemon_.system(), daemon_.node(), actors::request_timeout,
                                                      actors::children_atom::value);
  if (!children) co_return fail(children.error());
  if (!*children) co_return fail(children->error());
  co_return co_await ask<actors::BreakerReport>(loop_, daemon_.system(), (*children)->spend_breakers,
                                                actors::request_timeout, actors::breakers_atom::value);
}

template <class Message>
asio::awaitable<BreakerApi::Reply> BreakerApi::change(Message message, std::string done) {
  auto children = co_await ask<actors::ChildrenReply>(loop_, daemon_.system(), daemon_.node(), actors::request_timeout,
                                                      actors::children_atom::value);
  if (!children) co_return breaker_refusal(children.error());
  if (!*children) co_return breaker_refusal(children->error());
  const auto changed = co_await ask<actors::Done>(loop_, daemon_.system(), (*children)->spend_breakers,
                                                  actors::request_timeout, std::move(message));
  if (!changed) co_return breaker_refusal(changed.error());
  if (!*changed) co_return breaker_refusal(changed->error());
  co_return Reply{200, std::move(done)};
}

asio::awaitable<BreakerApi::Reply> BreakerApi::list() {
  const auto known = co_await report();
  if (!known) co_return breaker_refusal(known.error());
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("breakers").begin_array();
  for (const actors::BreakerStatus& status : known->breakers) write_breaker(json, status);
  json.end_array().end_object();
  co_return reply;
}

asio::awaitable<BreakerApi::Reply> BreakerApi::show(std::string id) {
  const auto known = co_await report();
  if (!known) co_return breaker_refusal(known.error());
  const auto found = std::find_if(known->breakers.begin(), known->breakers.end(),
                                  [&id](const auto& status) { return status.trip.id == id; });
  if (found == known->breakers.end()) co_return breaker_refusal(404, "no spend breaker of that id is open", "not_found");
  Reply reply;
  JsonWriter json(reply.body);
  write_breaker(json, *found);
  co_return reply;
}

asio::awaitable<BreakerApi::Reply> BreakerApi::reset(std::string id, std::string body) {
  const Json parsed = Json::parse(body, nullptr, false);
  const auto statement = parsed.is_object() ? read_statement(parsed) : std::nullopt;
  if (!statement || statement->reason.empty()) {
    co_return breaker_refusal(400, R"(send {"reason": "…", "by": "…", "allow_usd": "20.00"}; the reason is required, and )" +
                               std::string(statement_advice));
  }
  PicoUsd allowance;
  if (parsed.contains("allow_usd")) {
    const auto amount = parsed["allow_usd"].is_string() ? PicoUsd::parse_usd(parsed["allow_usd"].get<std::string>())
                                                        : Result<PicoUsd>(fail(MoneyError::malformed, "it is no text"));
    if (!amount || amount->value < 0) {
      co_return breaker_refusal(400, R"("allow_usd" is no amount; write US dollars as text, e.g. "20.00")");
    }
    allowance = *amount;
  }
  std::string done;
  JsonWriter(done).begin_object().key("id").string(id).key("reset").boolean(true).end_object();
  actors::ResetBreaker message{std::move(id), statement->by, statement->reason, allowance};
  co_return co_await change(std::move(message), std::move(done));
}

asio::awaitable<BreakerApi::Reply> BreakerApi::rules() {
  const auto known = co_await report();
  if (!known) co_return breaker_refusal(known.error());
  Reply reply;
  JsonWriter json(reply.body);
  json.begin_object().key("rules").begin_array();
  for (const actors::BreakerRuleStatus& status : known->rules) {
    json.begin_object().key("source").string(status.from_file ? "file" : "api");
    json.key("rule").raw(spend_rule_json(status.rule)).end_object();
  }
  json.end_array().end_object();
  co_return reply;
}

asio::awaitable<BreakerApi::Reply> BreakerApi::add_rule(std::string body) {
  const Json parsed = Json::parse(body, nullptr, false);
  const auto statement = parsed.is_object() ? read_statement(parsed) : std::nullopt;
  if (!statement || !parsed.contains("rule") || !parsed["rule"].is_object()) {
    co_return breaker_refusal(400, R"(send {"rule": {…}, "by": "…", "reason": "…"}; docs/breakers.md shows a rule, and )" +
                               std::string(statement_advice));
  }
  const auto rule = parse_spend_rule(parsed["rule"].dump());
  if (!rule) co_return breaker_refusal(400, rule.error().message);
  std::string definition = spend_rule_json(*rule);
  std::string done = definition;
  actors::AddBreakerRule message{*rule, std::move(definition), statement->by, statement->reason};
  co_return co_await change(std::move(message), std::move(done));
}

asio::awaitable<BreakerApi::Reply> BreakerApi::remove_rule(std::string name, std::string body) {
  const Json parsed = body.empty() ? Json::object() : Json::parse(body, nullptr, false);
  const auto statement = parsed.is_object() ? read_statement(parsed) : std::nullopt;
  if (!statement) {
    co_return breaker_refusal(400, R"(send {"by": "…", "reason": "…"} or nothing; )" + std::string(statement_advice));
  }
  std::string done;
  JsonWriter(done).begin_object().key("name").string(name).key("removed").boolean(true).end_object();
  actors::RemoveBreakerRule message{std::move(name), statement->by, statement->reason};
  co_return co_await change(std::move(message), std::move(done));
}

}  // namespace outlast::apps
