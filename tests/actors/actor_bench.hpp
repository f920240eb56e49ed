// What the tests of the node's actors share: a system under virtual time, and small configurations.
#pragma once

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <caf/actor_cast.hpp>
#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scheduler/test_coordinator.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/interfaces.hpp"
#include "core/clock.hpp"

namespace outlast::actors::testing {

// Nothing runs and no time passes but by run() and advance(). A bench that derives from it calls end() in its destructor,
// while what its actors refer to is still there.
class ActorBench {
 public:
  ActorBench() : config_(with_test_scheduler()), system_(*config_), self_(system_) {}
  ~ActorBench() { end(); }
  ActorBench(const ActorBench&) = delete;
  ActorBench& operator=(const ActorBench&) = delete;

  // An actor that is alive when its system ends would hang the test.
  void end() {
    for (const caf::strong_actor_ptr& actor : adopted_) {
      caf::anon_send_exit(caf::actor_cast<caf::actor>(actor), caf::exit_reason::kill);
    }
    adopted_.clear();
    run();
  }

  [[nodiscard]] caf::actor_system& system() { return system_; }
  void run() { scheduler().run(); }
  void advance(std::chrono::milliseconds time) {
    scheduler().advance_time(time);
    run();
  }

  template <class Handle>
  Handle adopt(Handle handle) {
    adopted_.push_back(caf::actor_cast<caf::strong_actor_ptr>(handle));
    return handle;
  }
  template <class Handle>
  void kill(const Handle& handle) {
    caf::anon_send_exit(handle, caf::exit_reason::kill);
    run();
  }
  template <class Handle, class Message>
  void tell(const Handle& handle, Message message) {
    caf::anon_send(handle, std::move(message));
    run();
  }
  // Throws when there is no answer.
  template <class Reply, class Handle, class Message>
  Reply ask(const Handle& handle, Message message) {
    auto pending = self_->request(handle, caf::infinite, std::move(message));
    run();
    std::optional<Reply> answer;
    std::string error;
    pending.receive([&answer](const Reply& reply) { answer = reply; },
                    [this, &error](const caf::error& failed) { error = system_.render(failed); });
    if (!answer) throw std::runtime_error("no answer: " + error);
    return *answer;
  }

 private:
  static std::unique_ptr<caf::actor_system_config> with_test_scheduler() {
    auto config = std::make_unique<caf::actor_system_config>();
    config->set("scheduler.policy", caf::atom("testing"));
    return config;
  }
  caf::scheduler::test_coordinator& scheduler() {
    return dynamic_cast<caf::scheduler::test_coordinator&>(system_.scheduler());
  }

  std::unique_ptr<caf::actor_system_config> config_;
  caf::actor_system system_;
  caf::scoped_actor self_;
  std::vector<caf::strong_actor_ptr> adopted_;
};

inline std::shared_ptr<const HmacSha256> test_hasher() {
  static constexpr std::string_view secret = "only for tests";
  return std::make_shared<const HmacSha256>(std::as_bytes(std::span(secret.data(), secret.size())));
}

// One provider, and deployments of the given names.
inline std::shared_ptr<const GatewayConfig> config_of(const std::vector<std::string>& deployments,
                                                      const std::string& price_version = "v1") {
  std::vector<gateway::Deployment> list;
  for (const std::string& name : deployments) list.push_back({.name = name, .provider = "alpha", .model = "fable"});
  auto config = std::make_shared<GatewayConfig>();
  config->routing = *gateway::RoutingTable::make({{.name = "alpha"}}, std::move(list), {});
  config->prices = std::make_shared<const PriceBook>(price_version);
  config->prices_toml = "version = \"" + price_version + "\"\n";
  return config;
}

inline VirtualKey key_of(const std::string& id, const std::string& text) {
  VirtualKey key;
  key.id = id;
  key.tenant = {"acme", "search", "ann"};
  key.hash = test_hasher()->of(text);
  return key;
}

}  // namespace outlast::actors::testing
