#include "cluster/presence_json.hpp"

#include <optional>
#include <utility>

#include <simdjson.h>

#include "core/json_writer.hpp"

namespace outlast::cluster {
namespace {

namespace dom = simdjson::dom;

constexpr std::size_t presence_bytes_max = 64U << 10;
constexpr std::size_t roles_max = 64;

std::string text_of(const dom::element& object, std::string_view name) {
  std::string_view text;
  if (object[name].get(text) != simdjson::SUCCESS) return {};
  return std::string(text);
}

std::uint16_t small_of(const dom::element& object, std::string_view name) {
  std::uint64_t number = 0;
  if (object[name].get(number) != simdjson::SUCCESS || number > UINT16_MAX) return 0;
  return static_cast<std::uint16_t>(number);
}

bool parse_identity(const dom::element& object, std::string& node, Incarnation& incarnation) {
  node = text_of(object, "node");
  const std::optional<Uuid> parsed = Uuid::parse(text_of(object, "incarnation"));
  if (parsed) incarnation = *parsed;
  return parsed.has_value() && !node.empty();
}

bool parse(dom::parser& parser, std::string_view text, dom::element& object) {
  return text.size() <= presence_bytes_max && parser.parse(text.data(), text.size()).get(object) == simdjson::SUCCESS &&
         object.is_object();
}

}  // namespace

std::string encode_presence(const Presence& presence) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("node").string(presence.node);
  json.key("incarnation").string(presence.incarnation.to_string());
  json.key("endpoint").string(presence.endpoint);
  json.key("client_endpoint").string(presence.client_endpoint);
  json.key("client_key").string(presence.client_key);
  json.key("roles").begin_array();
  for (const std::string& role : presence.roles) json.string(role);
  json.end_array();
  json.key("version_min").number(static_cast<unsigned>(presence.version_min));
  json.key("version_max").number(static_cast<unsigned>(presence.version_max));
  json.key("software").string(presence.software);
  json.key("replicas").number(static_cast<unsigned>(presence.replicas));
  json.end_object();
  return out;
}

bool parse_presence(std::string_view text, Presence& presence) {
  dom::parser parser;
  dom::element object;
  presence = {};
  if (!parse(parser, text, object) || !parse_identity(object, presence.node, presence.incarnation)) return false;
  presence.endpoint = text_of(object, "endpoint");
  presence.client_endpoint = text_of(object, "client_endpoint");
  presence.client_key = text_of(object, "client_key");
  presence.software = text_of(object, "software");
  presence.version_min = small_of(object, "version_min");
  presence.version_max = small_of(object, "version_max");
  presence.replicas = small_of(object, "replicas");
  dom::array roles;
  if (object["roles"].get(roles) != simdjson::SUCCESS) return true;
  for (const dom::element role : roles) {
    std::string_view name;
    if (role.get(name) != simdjson::SUCCESS || presence.roles.size() == roles_max) return false;
    presence.roles.emplace_back(name);
  }
  return true;
}

std::string encode_owner(const Presence& owner) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("node").string(owner.node);
  json.key("incarnation").string(owner.incarnation.to_string()).end_object();
  return out;
}

bool parse_owner(std::string_view text, Ownership& owner) {
  dom::parser parser;
  dom::element object;
  return parse(parser, text, object) && parse_identity(object, owner.node, owner.incarnation);
}

}  // namespace outlast::cluster
