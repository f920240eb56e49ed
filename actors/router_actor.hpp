#pragma once

#include <map>
#include <memory>
#include <string>

#include "actors/interfaces.hpp"
#include "core/clock.hpp"
#include "core/crypto.hpp"

namespace outlast::actors {

struct RouterDependencies {
  gateway::SnapshotBoard& board;  // outlives the actor
  const Clock& clock;
  std::shared_ptr<const HmacSha256> key_hasher;
  gateway::BreakerPolicy breaker_policy;
};

struct RouterState {
  std::shared_ptr<const GatewayConfig> config;
  std::shared_ptr<const KeyTable> keys;
  std::shared_ptr<const BudgetBook> budgets;
  std::vector<CommitmentStatus> commitments;
  // By the deployment's name, so that health and load outlive a reload.
  struct Watched {
    std::shared_ptr<gateway::DeploymentGauge> gauge;
    Provider provider;
  };
  std::map<std::string, Watched, std::less<>> deployments;
};

Router::behavior_type router_actor(Router::stateful_pointer<RouterState> self, RouterDependencies dependencies);

}  // namespace outlast::actors
