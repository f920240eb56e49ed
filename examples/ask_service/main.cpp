// A service that asks a model twice: for a whole answer, then for a stream that it prints as it comes.
// OUTLAST_ENDPOINT=tcp://HOST:PORT OUTLAST_SERVER_KEY=… OUTLAST_KEY=ol_… outlast-ask [ROUTE]
#include <cstdlib>
#include <iostream>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/client_actor.hpp"

namespace client = outlast::client;

namespace {

std::string environment(const char* name) { return std::getenv(name) == nullptr ? "" : std::getenv(name); }

// Prints what it gets. Not answering a batch at once would slow the stream down.
client::Sink::behavior_type print(client::Sink::pointer self) {
  return {[](const client::StreamBatch& batch) {
            for (const auto& event : batch.events) {
              if (const auto* delta = std::get_if<outlast::chat::TextDelta>(&event)) std::cout << delta->text << std::flush;
            }
          },
          [self](const client::StreamEnd& end) {
            if (const auto* failed = std::get_if<client::ChatFailure>(&end.outcome)) std::cout << failed->message;
            std::cout << std::endl;
            self->quit();
          }};
}

}  // namespace

int main(int argc, char** argv) {
  const std::string route = argc > 1 ? argv[1] : "smart";
  caf::actor_system_config config;
  config.set("scheduler.policy", caf::atom("sharing"));
  caf::actor_system system(config);
  client::ClientOptions options;
  options.endpoints = {{environment("OUTLAST_ENDPOINT"), environment("OUTLAST_SERVER_KEY")}};
  options.virtual_key = environment("OUTLAST_KEY");
  const auto models = client::spawn(system, options);
  if (!models) return std::cerr << "outlast-ask: " << models.error().message << '\n', 2;

  caf::scoped_actor self(system);
  int status = 0;
  const auto explain = [&status](const caf::error& error) {
    std::cerr << "outlast-ask: " << client::failure_of(error).message << '\n';
    status = 1;
  };
  self->request(*models, caf::infinite, client::ask(route, "Say hello."))
      .receive([](const client::ChatResponse& response) { std::cout << response.answer.text << std::endl; }, explain);
  if (status != 0) return status;
  const auto printer = system.spawn(print);
  self->request(*models, caf::infinite, client::StreamRequest{client::ask(route, "Count to ten."), printer})
      .receive([&](client::StreamStarted) { self->wait_for(printer); }, explain);
  return status;
}
