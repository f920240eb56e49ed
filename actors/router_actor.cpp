#include "actors/router_actor.hpp"

#include <utility>

#include <caf/response_promise.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/provider_actor.hpp"
#include "core/commitment_pace.hpp"
#include "core/log.hpp"
#include "core/random.hpp"

namespace outlast::actors {
namespace {

using Self = Router::stateful_pointer<RouterState>;

void watch(Self self, const RouterDependencies& dependencies, const std::string& name) {
  auto& watched = self->state.deployments[name];
  if (!watched.gauge) watched.gauge = std::make_shared<gateway::DeploymentGauge>(name);
  watched.provider = self->spawn<caf::monitored>(
      provider_actor, std::make_shared<ProviderState>(watched.gauge, dependencies.clock, dependencies.breaker_policy,
                                                      secure_seed()));
}

// Spawns providers for new deployments and ends those that the configuration no longer names.
void apply(Self self, const RouterDependencies& dependencies, std::shared_ptr<const GatewayConfig> config) {
  std::map<std::string, RouterState::Watched, std::less<>> kept;
  for (const gateway::Deployment& deployment : config->routing->deployments()) {
    if (auto node = self->state.deployments.extract(deployment.name)) kept.insert(std::move(node));
  }
  for (const auto& [name, gone] : self->state.deployments) {
    self->demonitor(gone.provider.address());
    self->send_exit(gone.provider, caf::exit_reason::user_shutdown);
  }
  self->state.deployments = std::move(kept);
  for (const gateway::Deployment& deployment : config->routing->deployments()) {
    if (!self->state.deployments.contains(deployment.name)) watch(self, dependencies, deployment.name);
  }
  self->state.config = std::move(config);
}

void publish(Self self, const RouterDependencies& dependencies) {
  // Lanes are not ready before all are there: without budgets they would spend what they may not.
  if (!self->state.config || !self->state.keys || !self->state.budgets) return;
  auto snapshot = std::make_shared<gateway::Snapshot>();
  snapshot->routing = self->state.config->routing;
  for (const gateway::Deployment& deployment : snapshot->routing->deployments()) {
    snapshot->gauges.push_back(self->state.deployments.at(deployment.name).gauge);
  }
  snapshot->keys = self->state.keys;
  snapshot->prices = self->state.config->prices;
  snapshot->serving = self->state.config->serving;
  snapshot->budgets = self->state.budgets;
  snapshot->rates = self->state.config->rates;
  dependencies.board.publish(std::move(snapshot));
}

// Which deployments have something bought that is used too slowly.
void publish_burning(Self self, const RouterDependencies& dependencies) {
  if (!self->state.config) return;
  const std::int64_t now_ms = dependencies.clock.wall_ms();
  for (const gateway::Deployment& deployment : self->state.config->routing->deployments()) {
    const bool burns = burns_commitment(self->state.commitments, deployment.provider, deployment.model, now_ms);
    self->state.deployments.at(deployment.name).gauge->publish_burning(burns);
  }
}

// Asks every provider; answers when all have.
caf::typed_response_promise<DeploymentList> collect_status(Self self) {
  auto promise = self->make_response_promise<DeploymentList>();
  struct Gathering {
    DeploymentList list;
    std::size_t missing;
  };
  auto gathering = std::make_shared<Gathering>(Gathering{{}, self->state.deployments.size()});
  if (gathering->missing == 0) promise.deliver(DeploymentList{});
  auto arrived = [gathering, promise]() mutable {
    if (--gathering->missing == 0) promise.deliver(std::move(gathering->list));
  };
  for (const auto& [name, watched] : self->state.deployments) {
    self->request(watched.provider, request_timeout, status_atom::value)
        .then(
            [gathering, arrived](const DeploymentStatus& status) mutable {
              gathering->list.push_back(status);
              arrived();
            },
            [arrived](const caf::error&) mutable { arrived(); });
  }
  return promise;
}

}  // namespace

Router::behavior_type router_actor(Self self, RouterDependencies dependencies) {
  self->set_down_handler([self, dependencies](const caf::down_msg& down) {
    for (const auto& [name, watched] : self->state.deployments) {
      if (watched.provider.address() != down.source) continue;
      log::error("provider_actor_failed", {{"deployment", name}, {"reason", self->system().render(down.reason)}});
      watch(self, dependencies, name);
      return;
    }
  });
  return {
      [self](const OutcomeReport& report) {
        for (const auto& [name, outcome] : report.outcomes) {
          const auto found = self->state.deployments.find(name);
          if (found != self->state.deployments.end()) self->send(found->second.provider, outcome);
        }
      },
      [self, dependencies](const ApplyConfig& apply_config) -> Done {
        apply(self, dependencies, apply_config.config);
        publish_burning(self, dependencies);
        publish(self, dependencies);
        return true;
      },
      [self, dependencies](const KeysChanged& changed) -> Done {
        auto table = std::make_shared<KeyTable>(dependencies.key_hasher);
        for (const VirtualKey& key : changed.keys) table->add(std::make_shared<const VirtualKey>(key));
        self->state.keys = std::move(table);
        publish(self, dependencies);
        return true;
      },
      [self, dependencies](const BudgetsChanged& changed) -> Done {
        self->state.budgets = changed.book;
        publish(self, dependencies);
        return true;
      },
      [self, dependencies](const CommitmentsChanged& changed) {
        self->state.commitments = changed.commitments;
        publish_burning(self, dependencies);
      },
      [self](status_atom) { return collect_status(self); },
  };
}

}  // namespace outlast::actors
