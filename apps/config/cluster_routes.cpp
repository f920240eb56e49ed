#include "apps/config/cluster_routes.hpp"

#include "apps/config/sections.hpp"

namespace outlast::apps {

Result<RoutesConfig> parse_routes(std::string_view toml, const std::string& file, const std::string& folder,
                                  SecretUse use) {
  toml::table document;
  try {
    document = toml::parse(toml, std::string_view(file));
  } catch (const toml::parse_error& error) {
    return fail(ConfigError::syntax, syntax_error_text(file, error));
  }
  ConfigErrors errors(file);
  TableReader root(document, "", 1, errors);
  NodeConfig config;
  read_routing(root, folder, config, use == SecretUse::read);
  root.refuse_unknown_keys();
  if (!errors.empty()) return fail(ConfigError::invalid, errors.text());
  return RoutesConfig{std::move(config.providers), std::move(config.deployments), std::move(config.routes)};
}

}  // namespace outlast::apps
