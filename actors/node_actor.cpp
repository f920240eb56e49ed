#include "actors/node_actor.hpp"

#include <algorithm>
#include <utility>

#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "core/log.hpp"

namespace outlast::actors {
namespace {

using Self = Node::stateful_pointer<NodeState>;
using Promise = caf::typed_response_promise<Done>;

Done unavailable(const char* who) {
  return fail(ActorError::unavailable, std::string(who) + " did not answer; it is being restarted, try again");
}

// The router last, so that a request is never priced by a version that the ledger does not know.
void apply_config(Self self, const std::shared_ptr<const GatewayConfig>& config, Promise promise) {
  const auto publish = [self, config, promise](const Done& recorded) mutable {
    if (!recorded || !self->state.children) {
      promise.deliver(recorded ? unavailable("the router") : recorded);
      return;
    }
    self->state.config = config;
    self->request(self->state.children->router, request_timeout, ApplyConfig{config})
        .then([promise](const Done& done) mutable { promise.deliver(done); },
              [promise](const caf::error&) mutable { promise.deliver(unavailable("the router")); });
  };
  self->request(self->state.children->accountant, request_timeout,
                RecordPrices{config->prices->version(), config->prices_toml})
      .then(publish, [promise](const caf::error&) mutable { promise.deliver(unavailable("the accountant")); });
}

void start_children(Self self, const NodeDependencies& dependencies) {
  Router router = dependencies.spawn_router(self);
  Accountant accountant = dependencies.spawn_accountant(self, router);
  SpendBreakers spend_breakers;
  if (dependencies.spawn_spend_breakers) spend_breakers = dependencies.spawn_spend_breakers(self);
  self->state.children = Children{router, accountant, spend_breakers};
  if (self->state.config) caf::anon_send(router, ApplyConfig{self->state.config});
  if (self->state.spend_config) caf::anon_send(spend_breakers, ApplySpendConfig{self->state.spend_config});
}

void schedule_restart(Self self, const NodeDependencies& dependencies) {
  NodeState& state = self->state;
  self->send_exit(state.children->router, caf::exit_reason::kill);
  self->send_exit(state.children->accountant, caf::exit_reason::kill);
  if (state.children->spend_breakers) self->send_exit(state.children->spend_breakers, caf::exit_reason::kill);
  state.children.reset();
  const auto now = std::chrono::steady_clock::now();
  if (now - state.last_restart > dependencies.restarts.calm) state.restarts = 0;
  state.last_restart = now;
  if (++state.restarts > dependencies.restarts.restarts_max) {
    log::error("node_gives_up", {{"restarts", state.restarts - 1}});
    dependencies.on_give_up();
    return;
  }
  const auto doubled = dependencies.restarts.backoff * (1U << std::min(state.restarts - 1, 20U));
  self->delayed_send(self, std::min<std::chrono::milliseconds>(doubled, dependencies.restarts.backoff_max),
                     restart_atom::value);
}

}  // namespace

Node::behavior_type node_actor(Self self, NodeDependencies dependencies) {
  self->set_down_handler([self, dependencies](const caf::down_msg& down) {
    if (!self->state.children) return;  // news of a child that is already being replaced
    const Children& children = *self->state.children;
    const bool spend = children.spend_breakers && children.spend_breakers.address() == down.source;
    if (children.router.address() != down.source && children.accountant.address() != down.source && !spend) return;
    log::error("child_actor_failed", {{"reason", self->system().render(down.reason)}});
    schedule_restart(self, dependencies);
  });
  start_children(self, dependencies);
  return {
      [self](const OutcomeReport& report) {
        if (self->state.children) self->send(self->state.children->router, report);
      },
      [self](const SpendReport& report) {
        if (self->state.children && self->state.children->spend_breakers) {
          self->send(self->state.children->spend_breakers, report);
        }
      },
      [self](const LedgerNews& news) {
        if (!self->state.children) return;  // they will read all of it when they start
        if (news.money_or_keys) self->send(self->state.children->accountant, changed_atom::value);
        if ((!news.breakers.empty() || !news.told.empty()) && self->state.children->spend_breakers) {
          self->send(self->state.children->spend_breakers, BreakerNews{news.breakers, news.told});
        }
      },
      [self](const ApplyConfig& apply) {
        auto promise = self->make_response_promise<Done>();
        if (self->state.children) apply_config(self, apply.config, promise);
        else promise.deliver(unavailable("the router"));
        return promise;
      },
      [self](const ApplySpendConfig& apply) {
        auto promise = self->make_response_promise<Done>();
        if (!self->state.children || !self->state.children->spend_breakers) {
          promise.deliver(unavailable("the spend breakers' actor"));
          return promise;
        }
        self->state.spend_config = apply.config;
        self->request(self->state.children->spend_breakers, request_timeout, apply)
            .then([promise](const Done& done) mutable { promise.deliver(done); },
                  [promise](const caf::error&) mutable { promise.deliver(unavailable("the spend breakers' actor")); });
        return promise;
      },
      [self](children_atom) -> ChildrenReply {
        if (self->state.children) return *self->state.children;
        return fail(ActorError::unavailable, "the node's actors are being restarted; try again");
      },
      [self, dependencies](restart_atom) {
        if (!self->state.children) start_children(self, dependencies);
      },
  };
}

}  // namespace outlast::actors
