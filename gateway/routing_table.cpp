#include "gateway/routing_table.hpp"

#include <algorithm>

namespace outlast::gateway {

Result<std::shared_ptr<const RoutingTable>> RoutingTable::make(std::vector<Provider> providers,
                                                               std::vector<Deployment> deployments,
                                                               std::vector<Route> routes) {
  auto table = std::make_shared<RoutingTable>();
  std::map<std::string, std::uint32_t, std::less<>> provider_index;
  for (const Provider& provider : providers) {
    if (!provider_index.emplace(provider.name, provider_index.size()).second) {
      return fail(RoutingError::duplicate_name, "provider '" + provider.name + "' is defined twice; rename one");
    }
  }
  std::map<std::string, std::uint32_t, std::less<>> deployment_index;
  for (const Deployment& deployment : deployments) {
    const auto provider = provider_index.find(deployment.provider);
    if (provider == provider_index.end()) {
      return fail(RoutingError::unknown_name, "deployment '" + deployment.name + "' names provider '" +
                                                  deployment.provider + "', which is not defined");
    }
    if (!deployment_index.emplace(deployment.name, deployment_index.size()).second) {
      return fail(RoutingError::duplicate_name, "deployment '" + deployment.name + "' is defined twice; rename one");
    }
    table->provider_index_.push_back(provider->second);
  }
  for (const Route& route : routes) {
    ResolvedRoute resolved{route.name, {}, route.policy};
    for (const std::string& name : route.deployments) {
      const auto found = deployment_index.find(name);
      if (found == deployment_index.end()) {
        return fail(RoutingError::unknown_name,
                    "route '" + route.name + "' names deployment '" + name + "', which is not defined");
      }
      if (std::find(resolved.deployments.begin(), resolved.deployments.end(), found->second) != resolved.deployments.end()) {
        return fail(RoutingError::duplicate_name, "route '" + route.name + "' names deployment '" + name +
                                                      "' twice; name it once and give it a weight");
      }
      resolved.deployments.push_back(found->second);
    }
    if (resolved.deployments.empty()) {
      return fail(RoutingError::out_of_range, "route '" + route.name + "' has no deployments; name at least one");
    }
    if (!table->routes_.emplace(route.name, std::move(resolved)).second) {
      return fail(RoutingError::duplicate_name, "route '" + route.name + "' is defined twice; rename one");
    }
  }
  // Model names, then deployments' own names, wherever nothing nearer to the administrator's words has the name.
  std::map<std::string, ResolvedRoute, std::less<>> by_model;
  for (std::uint32_t i = 0; i < deployments.size(); ++i) {
    auto& resolved = by_model[deployments[i].model];
    resolved.name = deployments[i].model;
    resolved.deployments.push_back(i);
  }
  table->routes_.merge(by_model);
  for (const auto& [name, index] : deployment_index) table->routes_.try_emplace(name, ResolvedRoute{name, {index}, {}});
  table->providers_ = std::move(providers);
  for (Provider& provider : table->providers_) {
    provider.credential = credential_header(provider.dialect, provider.api_key);
  }
  table->deployments_ = std::move(deployments);
  return std::shared_ptr<const RoutingTable>(std::move(table));
}

const ResolvedRoute* RoutingTable::find(std::string_view route_or_model) const {
  const auto found = routes_.find(route_or_model);
  return found == routes_.end() ? nullptr : &found->second;
}

}  // namespace outlast::gateway
