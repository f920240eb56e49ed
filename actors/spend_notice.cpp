#include "actors/spend_notice.hpp"

#include "core/json_writer.hpp"

namespace outlast::actors {

SpendNotice spend_notice(const BreakerEvent& event, const gateway::SpendConfig& config, const std::string& link) {
  SpendNotice notice;
  const BreakerTripped& trip = event.trip;
  notice.id = event.id();
  JsonWriter json(notice.body);
  json.begin_object().key("delivery").string(notice.id).key("event").string(event.event).key("breaker").string(trip.id);
  json.key("rule").string(trip.rule).key("scope").string(trip.scope).key("session").string(trip.session);
  json.key("action").string(name_of(trip.action)).key("why").string(trip.why);
  json.key("by").string(event.by).key("reason").string(event.reason).key("node").string(config.node);
  json.key("time_ms").number(event.time_ms).key("link").string(link).end_object();
  notice.notify = config.notify;
  for (const gateway::SpendFileRule& rule : config.rules) {
    if (rule.rule.name == trip.rule && rule.notify) notice.notify = *rule.notify;
  }
  return notice;
}

}  // namespace outlast::actors
