// outlast config check | reload
#include <algorithm>

#include "apps/config/node_config.hpp"
#include "apps/outlast/cli_error.hpp"
#include "apps/outlast/command_line.hpp"
#include "apps/outlast/terminal.hpp"
#include "core/json_writer.hpp"
#include "gateway/routing_table.hpp"

namespace outlast::apps {
namespace {

void print_errors_as_json(const std::string& errors) {
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("ok").boolean(false).key("errors").begin_array();
  for (std::size_t at = 0; at < errors.size();) {
    const auto end = std::min(errors.find('\n', at), errors.size());
    json.string(std::string_view(errors).substr(at, end - at));
    at = end + 1;
  }
  json.end_array().end_object();
  print(text + "\n");
}

Result<void> check_config(const GlobalOptions& global, const std::string& file) {
  const auto config = load_node_config(file);
  std::string errors = config ? "" : config.error().message;
  if (config) {
    const auto table =
        gateway::RoutingTable::make(config->providers, config->deployments, config->routes);
    if (!table) errors = file + ": " + table.error().message;
  }
  if (!errors.empty()) {
    if (global.json) print_errors_as_json(errors);
    return fail(CliError::failed, "this configuration is refused:\n" + errors);
  }
  if (global.json) {
    print("{\"ok\":true,\"errors\":[]}\n");
    return {};
  }
  print(file + " is right: node " + config->name + ", " + std::to_string(config->providers.size()) +
        " providers, " + std::to_string(config->deployments.size()) + " deployments, " +
        std::to_string(config->routes.size()) + " routes, " +
        std::to_string(config->prices.size()) + " prices\n");
  return {};
}

Result<void> reload_config(const GlobalOptions& global) {
  auto api = AdminApi::find(global);
  if (!api) return fail(api.error());
  const auto answer = api->call("POST", "config/reload", "{}");
  if (!answer) return fail(answer.error());
  print(global.json ? "{\"ok\":true}\n" : "reloaded\n");
  return {};
}

}  // namespace

void add_config_commands(CommandLine& line) {
  CLI::App* config = line.add_group("config", "the node's configuration file");
  auto file = std::make_shared<std::string>();
  CLI::App* check = line.add_command(*config, "check", "validates a file without starting a node",
                                     [&line, file] { return check_config(line.options, *file); });
  check->add_option("file", *file, "the TOML file")->required()->type_name("FILE");
  line.add_command(*config, "reload",
                   "makes the running node read its file again; connections stay",
                   [&line] { return reload_config(line.options); });
}

}  // namespace outlast::apps
