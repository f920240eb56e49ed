#include "apps/outlastd/rate_limit_json.hpp"

#include <optional>

#include "core/json_writer.hpp"

namespace outlast::apps {
namespace {

void write_bound(JsonWriter& json, const gateway::RateBound& bound,
                 const std::optional<gateway::RateWindow>& window) {
  if (bound.per_minute == 0) {
    json.null();
    return;
  }
  json.begin_object().key("per_minute").number(bound.per_minute).key("burst").number(bound.burst);
  json.key("remaining");
  if (window)
    json.number(window->remaining);
  else
    json.null();
  json.key("reset_ms");
  if (window)
    json.number((window->reset_ns + 999'999) / 1'000'000);
  else
    json.null();
  json.end_object();
}

}  // namespace

std::string rate_limits_json(const std::vector<gateway::RateLimitStatus>& limits) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("rate_limits").begin_array();
  for (const gateway::RateLimitStatus& limit : limits) {
    json.begin_object().key("scope").string(limit.rule.scope.to_string());
    json.key("requests");
    write_bound(json, limit.rule.requests, limit.requests);
    json.key("tokens");
    write_bound(json, limit.rule.tokens, limit.tokens);
    json.key("live");
    if (limit.live)
      json.number(static_cast<std::uint64_t>(*limit.live));
    else
      json.null();
    json.end_object();
  }
  json.end_array().end_object();
  return body;
}

}  // namespace outlast::apps
