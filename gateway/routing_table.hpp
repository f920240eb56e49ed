// RoutingTable: providers, deployments and routes as the administrator wrote them, resolved and immutable.
// Any thread. Made from the configuration at start and at each reload; the router publishes it to the lanes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gateway/dialect.hpp"
#include "http/client.hpp"

namespace outlast::gateway {

// Append-only.
enum class RoutingError : std::uint16_t { duplicate_name = 1, unknown_name = 2, out_of_range = 3, unpriced = 4 };

struct Provider {
  std::string name;
  Dialect dialect = Dialect::openai;
  http::Origin origin;   // from base_url
  std::string api_key;   // a secret: never logged; empty for none
  CredentialHeader credential;  // of api_key; RoutingTable::make sees to it
  std::string contract;  // which of the provider's prices hold; empty for its list prices
  std::string region;    // where it serves, for prices, when its answers do not say; empty for anywhere
};

struct Deployment {
  std::string name;
  std::string provider;
  std::string model;                   // as the provider knows it
  std::uint32_t weight = 1;            // share among deployments of equal priority; 0: only when the others failed
  std::uint32_t priority = 1;          // lower goes first
  std::uint32_t max_concurrency = 0;   // 0: no limit
  http::ClientTimeouts timeouts;       // connect, first event, idle
};

struct RoutePolicy {
  std::uint32_t deadline_ms = 600'000;   // of a request over all its attempts, up to the first content
  std::uint32_t attempts_max = 4;
  bool drain_on_disconnect = false;      // true: read the upstream to its usage event when the caller goes
  bool burn = false;                     // deployments with a commitment that is used too slowly go first
};

struct Route {
  std::string name;
  std::vector<std::string> deployments;
  RoutePolicy policy;
};

// A route resolved: indexes into the table's deployments.
struct ResolvedRoute {
  std::string name;
  std::vector<std::uint32_t> deployments;
  RoutePolicy policy;
};

class RoutingTable {
 public:
  // Refuses repeated and unknown names. A model name resolves to every deployment of that model, unless a route has
  // the same name; a deployment's own name resolves to itself.
  static Result<std::shared_ptr<const RoutingTable>> make(std::vector<Provider> providers,
                                                          std::vector<Deployment> deployments, std::vector<Route> routes);

  [[nodiscard]] const ResolvedRoute* find(std::string_view route_or_model) const;
  [[nodiscard]] const std::vector<Deployment>& deployments() const { return deployments_; }
  [[nodiscard]] const Provider& provider_of(std::uint32_t deployment) const {
    return providers_[provider_index_[deployment]];
  }
  // What GET /v1/models lists: routes, then models.
  [[nodiscard]] const std::map<std::string, ResolvedRoute, std::less<>>& routes() const { return routes_; }

 private:
  std::vector<Provider> providers_;
  std::vector<Deployment> deployments_;
  std::vector<std::uint32_t> provider_index_;
  std::map<std::string, ResolvedRoute, std::less<>> routes_;
};

}  // namespace outlast::gateway

namespace outlast {
template <>
inline constexpr std::string_view error_module<gateway::RoutingError> = "routing";
}  // namespace outlast
