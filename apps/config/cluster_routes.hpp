// The setting `routes` of a cluster: the [[provider]], [[deployment]] and [[route]] part of the configuration, kept in
// the control log for all nodes instead of in each node's file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apps/config/node_config.hpp"

namespace outlast::apps {

inline constexpr std::string_view routes_setting = "routes";

struct RoutesConfig {
  std::vector<gateway::Provider> providers;
  std::vector<gateway::Deployment> deployments;
  std::vector<gateway::Route> routes;
};

enum class SecretUse {
  read,         // on a node, which is to serve by it
  only_checked  // elsewhere: the variables and files that it names are the nodes'
};

// `file` is for messages; relative paths of secrets are seen from `folder`. Secrets stand in it by name only: api_key =
// { env = … } or { file = … }. Errors as of load_node_config(): all of them, with lines.
Result<RoutesConfig> parse_routes(std::string_view toml, const std::string& file, const std::string& folder, SecretUse use);

}  // namespace outlast::apps
