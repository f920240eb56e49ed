#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "actors/interfaces.hpp"

namespace outlast::actors {

// The children depend on each other, so when one fails all are restarted, later each time, and not for ever.
struct RestartPolicy {
  std::chrono::milliseconds backoff{100};  // doubles
  std::chrono::milliseconds backoff_max{10'000};
  std::uint32_t restarts_max = 10;         // without `calm` between
  std::chrono::minutes calm{10};
};

struct NodeDependencies {
  std::function<Router(Node::pointer parent)> spawn_router;  // both spawn monitored by the parent
  std::function<Accountant(Node::pointer parent, Router router)> spawn_accountant;
  std::function<SpendBreakers(Node::pointer parent)> spawn_spend_breakers;  // empty: the node has none
  RestartPolicy restarts;
  std::function<void()> on_give_up;  // the daemon cannot go on
};

struct NodeState {
  std::optional<Children> children;
  std::shared_ptr<const GatewayConfig> config;  // the latest, for children that are started again
  std::shared_ptr<const gateway::SpendConfig> spend_config;
  std::uint32_t restarts = 0;
  std::chrono::steady_clock::time_point last_restart;
};

Node::behavior_type node_actor(Node::stateful_pointer<NodeState> self, NodeDependencies dependencies);

}  // namespace outlast::actors
