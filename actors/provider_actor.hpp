#pragma once

#include <memory>

#include "actors/interfaces.hpp"
#include "core/clock.hpp"
#include "gateway/breaker.hpp"
#include "gateway/deployment_gauge.hpp"

namespace outlast::actors {

struct ProviderState {
  // What an earlier provider of the same gauge published ends here, with the probe whose outcome it will not see.
  ProviderState(std::shared_ptr<gateway::DeploymentGauge> published, const Clock& node_clock, gateway::BreakerPolicy policy,
                std::uint64_t seed)
      : gauge(std::move(published)), clock(node_clock), breaker(policy, seed) {
    gauge->publish(breaker);
    gauge->release_probe();
  }

  void record(const gateway::Outcome& outcome);
  [[nodiscard]] DeploymentStatus status() const;

  std::shared_ptr<gateway::DeploymentGauge> gauge;
  const Clock& clock;
  gateway::Breaker breaker;
  std::uint64_t successes = 0;
  std::uint64_t failures = 0;
  std::uint64_t openings = 0;
};

// `state` is shared with nobody else.
Provider::behavior_type provider_actor(Provider::pointer self, std::shared_ptr<ProviderState> state);

}  // namespace outlast::actors
