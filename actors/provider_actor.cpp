#include "actors/provider_actor.hpp"

#include <algorithm>

#include "core/log.hpp"

namespace outlast::actors {

void ProviderState::record(const gateway::Outcome& outcome) {
  const bool was_closed = breaker.is_closed();
  const std::int64_t now_ns = clock.monotonic_ns();
  breaker.record(outcome, now_ns);
  gauge->publish(breaker);
  if (outcome.probe) gauge->release_probe();
  successes += outcome.successes;
  failures += outcome.failures + outcome.credential_failures;
  if (was_closed && !breaker.is_closed()) {
    ++openings;
    log::warning("breaker_opened", {{"deployment", gauge->name()},
                                    {"for_ms", (breaker.open_until_ns() - now_ns) / 1'000'000}});
  } else if (!was_closed && breaker.is_closed()) {
    log::info("breaker_closed", {{"deployment", gauge->name()}});
  }
}

DeploymentStatus ProviderState::status() const {
  const std::int64_t now_ns = clock.monotonic_ns();
  DeploymentStatus status;
  status.name = gauge->name();
  status.breaker = breaker.state(now_ns);
  status.consecutive_failures = breaker.consecutive_failures();
  status.in_flight = gauge->in_flight();
  status.successes = successes;
  status.failures = failures;
  status.openings = openings;
  if (status.breaker == gateway::BreakerState::open) status.open_for_ms = (breaker.open_until_ns() - now_ns) / 1'000'000;
  return status;
}

Provider::behavior_type provider_actor(Provider::pointer, std::shared_ptr<ProviderState> state) {
  return {
      [state](const gateway::Outcome& outcome) { state->record(outcome); },
      [state](status_atom) { return state->status(); },
  };
}

}  // namespace outlast::actors
