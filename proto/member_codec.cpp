// The entries of a cluster: owners, holders, nodes, settings.
#include <algorithm>

#include "proto/ledger_wire.hpp"

namespace outlast::proto {

void fill(wire::OwnerStarted::Builder to, const OwnerStarted& from) {
  put_id(to, from.incarnation);
  to.setNode(text_of(from.node));
  to.setSoftware(text_of(from.software));
}

OwnerStarted read(wire::OwnerStarted::Reader from) {
  return {uuid_of(from.getIdHigh(), from.getIdLow()), string_of(from.getNode()), string_of(from.getSoftware())};
}

void fill(wire::HolderEnded::Builder to, const HolderEnded& from) {
  put_id(to, from.holder);
  to.setSpent(from.spent);
  to.setWhy(text_of(from.why));
}

HolderEnded read(wire::HolderEnded::Reader from) {
  return {uuid_of(from.getIdHigh(), from.getIdLow()), from.getSpent(), string_of(from.getWhy())};
}

void fill(wire::NodeEnrolled::Builder to, const NodeEnrolled& from) {
  to.setName(text_of(from.name));
  to.setPublicKey(text_of(from.public_key));
  to.setEndpoint(text_of(from.endpoint));
  auto roles = to.initRoles(static_cast<unsigned>(from.roles.size()));
  for (unsigned i = 0; i < from.roles.size(); ++i) roles.set(i, text_of(from.roles[i]));
  to.setToken(text_of(from.token));
  to.setBy(text_of(from.by));
  put_id(to, from.incarnation);
}

NodeEnrolled read(wire::NodeEnrolled::Reader from) {
  NodeEnrolled to;
  to.name = string_of(from.getName());
  to.public_key = string_of(from.getPublicKey());
  to.endpoint = string_of(from.getEndpoint());
  for (const auto role : from.getRoles()) to.roles.push_back(string_of(role));
  to.token = string_of(from.getToken());
  to.by = string_of(from.getBy());
  to.incarnation = uuid_of(from.getIdHigh(), from.getIdLow());
  return to;
}

void fill(wire::NodeChanged::Builder to, const NodeChanged& from) {
  to.setName(text_of(from.name));
  to.setState(static_cast<std::uint8_t>(from.state));
  to.setBy(text_of(from.by));
  to.setReason(text_of(from.reason));
}

NodeChanged read(wire::NodeChanged::Reader from) {
  if (from.getState() >= std::size(node_state_names)) throw Malformed{"a node's state of a later version"};
  return {string_of(from.getName()), static_cast<NodeState>(from.getState()), string_of(from.getBy()),
          string_of(from.getReason())};
}

void fill(wire::JoinTokenMade::Builder to, const JoinTokenMade& from) {
  to.setId(text_of(from.id));
  to.setHash({from.hash.data(), from.hash.size()});
  to.setExpiresMs(from.expires_ms);
  to.setBy(text_of(from.by));
}

JoinTokenMade read(wire::JoinTokenMade::Reader from) {
  JoinTokenMade to{string_of(from.getId()), {}, from.getExpiresMs(), string_of(from.getBy())};
  const auto hash = from.getHash();
  if (hash.size() != to.hash.size()) throw Malformed{"a token's hash that is not 32 bytes"};
  std::copy(hash.begin(), hash.end(), to.hash.begin());
  return to;
}

void fill(wire::SettingSet::Builder to, const SettingSet& from) {
  to.setName(text_of(from.name));
  to.setValue(text_of(from.value));
  to.setBy(text_of(from.by));
}

SettingSet read(wire::SettingSet::Reader from) {
  return {string_of(from.getName()), string_of(from.getValue()), string_of(from.getBy())};
}

}  // namespace outlast::proto
