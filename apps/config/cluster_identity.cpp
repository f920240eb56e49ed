#include "apps/config/cluster_identity.hpp"

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "core/json_writer.hpp"
#include "storage/durable_file.hpp"

namespace outlast::apps {
namespace {

using Json = nlohmann::json;

constexpr std::size_t identity_bytes_max = 4U << 20;
constexpr unsigned identity_mode = 0600;

bool read_text(const Json& object, const char* name, std::string& into) {
  if (!object.is_object() || !object.contains(name) || !object[name].is_string()) return false;
  into = object[name].get<std::string>();
  return !into.empty();
}

bool read_step(const Json& object, ClusterIdentity::Step& into) {
  std::string word;
  if (!read_text(object, "step", word)) return false;
  const auto at = std::find(std::begin(identity_step_names), std::end(identity_step_names), word);
  if (at == std::end(identity_step_names)) return false;
  into = static_cast<ClusterIdentity::Step>(at - std::begin(identity_step_names));
  return true;
}

bool read_members(const Json& object, ClusterIdentity& into) {
  if (object.contains("peers")) {
    if (!object["peers"].is_array()) return false;
    for (const Json& one : object["peers"]) {
      ClusterIdentity::Peer peer;
      if (!read_text(one, "name", peer.name) || !read_text(one, "public_key", peer.public_key) ||
          !read_text(one, "endpoint", peer.endpoint)) {
        return false;
      }
      into.peers.push_back(std::move(peer));
    }
  }
  if (!object.contains("settings")) return true;
  if (!object["settings"].is_object()) return false;
  for (const auto& [name, value] : object["settings"].items()) {
    if (!value.is_string()) return false;
    into.settings[name] = value.get<std::string>();
  }
  return true;
}

}  // namespace

std::string identity_file(const std::string& data) { return (std::filesystem::path(data) / "cluster.json").string(); }

Result<std::optional<ClusterIdentity>> read_cluster_identity(const std::string& data) {
  const std::string file = identity_file(data);
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return std::nullopt;
  const auto text = storage::read_whole_file(file, identity_bytes_max);
  if (!text) return fail(ConfigError::unreadable, text.error().message);
  const Json json = Json::parse(*text, nullptr, false);
  ClusterIdentity identity;
  if (!json.is_object() || !read_text(json, "cluster", identity.cluster) || !read_text(json, "node", identity.node) ||
      !read_text(json, "public_key", identity.public_key) || !read_step(json, identity.step) ||
      !read_members(json, identity)) {
    return fail(ConfigError::invalid, file + " is not what 'outlast node init' or 'outlast node join' writes; restore it " +
                                          "from a backup of the data folder");
  }
  return identity;
}

Result<void> write_cluster_identity(const std::string& data, const ClusterIdentity& identity) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("cluster").string(identity.cluster).key("node").string(identity.node);
  json.key("public_key").string(identity.public_key);
  json.key("step").string(identity_step_names[static_cast<std::size_t>(identity.step)]);
  json.key("peers").begin_array();
  for (const ClusterIdentity::Peer& peer : identity.peers) {
    json.begin_object().key("name").string(peer.name).key("public_key").string(peer.public_key);
    json.key("endpoint").string(peer.endpoint).end_object();
  }
  json.end_array().key("settings").begin_object();
  for (const auto& [name, value] : identity.settings) json.key(name).string(value);
  json.end_object().end_object();
  const auto written = storage::write_file_durably(identity_file(data), text + "\n", identity_mode);
  if (!written) return fail(ConfigError::unreadable, written.error().message);
  return {};
}

Result<void> check_identity(const ClusterIdentity& identity, const NodeConfig& config, const std::string& public_key) {
  const std::string file = identity_file(config.data);
  const std::string advice = "; a data folder stays with one node of one cluster: give this one another [node] data";
  if (identity.cluster != config.cluster.name) {
    return fail(ConfigError::invalid, file + " is of the cluster '" + identity.cluster + "', and [cluster] name is '" +
                                          config.cluster.name + "'" + advice);
  }
  if (identity.node != config.name) {
    return fail(ConfigError::invalid,
                file + " is of the node '" + identity.node + "', and [node] name is '" + config.name + "'" + advice);
  }
  if (identity.public_key != public_key) {
    return fail(ConfigError::invalid, file + " names another key than the one in " + config.data +
                                          "/zmq.key; restore that file from a backup of the data folder");
  }
  return {};
}

}  // namespace outlast::apps
