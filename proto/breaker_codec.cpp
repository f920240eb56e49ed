// The entries of spend breakers.
#include "proto/ledger_wire.hpp"

namespace outlast::proto {

void fill(wire::BreakerTripped::Builder to, const BreakerTripped& from) {
  to.setId(text_of(from.id));
  to.setRule(text_of(from.rule));
  to.setScope(text_of(from.scope));
  to.setSession(text_of(from.session));
  to.setAction(static_cast<std::uint8_t>(from.action));
  to.setWhy(text_of(from.why));
}

BreakerTripped read(wire::BreakerTripped::Reader from) {
  if (from.getAction() >= std::size(spend_action_names)) throw Malformed{"a breaker's action of a later version"};
  return {string_of(from.getId()),      string_of(from.getRule()), string_of(from.getScope()),
          string_of(from.getSession()), static_cast<SpendAction>(from.getAction()), string_of(from.getWhy())};
}

void fill(wire::BreakerReset::Builder to, const BreakerReset& from) {
  to.setId(text_of(from.id));
  to.setBy(text_of(from.by));
  to.setReason(text_of(from.reason));
  to.setAllowanceHigh(high_of(from.allowance));
  to.setAllowanceLow(low_of(from.allowance));
}

BreakerReset read(wire::BreakerReset::Reader from) {
  return {string_of(from.getId()), string_of(from.getBy()), string_of(from.getReason()),
          amount_of(from.getAllowanceHigh(), from.getAllowanceLow())};
}

void fill(wire::BreakerRule::Builder to, const BreakerRuleChange& from) {
  to.setName(text_of(from.name));
  to.setDefinition(text_of(from.definition));
  to.setBy(text_of(from.by));
  to.setReason(text_of(from.reason));
}

BreakerRuleChange read(wire::BreakerRule::Reader from) {
  return {string_of(from.getName()), string_of(from.getDefinition()), string_of(from.getBy()),
          string_of(from.getReason())};
}

}  // namespace outlast::proto
