// Many chats of client actors at once, for tests/e2e: what became of them, as one line of JSON.
// OUTLAST_ENDPOINT=… OUTLAST_SERVER_KEY=… OUTLAST_KEY=… outlast-ask-many ROUTE COUNT MAX_TOKENS [TAG [SESSION]]
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>

#include "actors/client_actor.hpp"

namespace client = outlast::client;

namespace {

constexpr std::size_t clients = 5;  // a node takes 256 requests from one

std::string environment(const char* name) { return std::getenv(name) == nullptr ? "" : std::getenv(name); }

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::cerr << "outlast-ask-many ROUTE COUNT MAX_TOKENS [TAG [SESSION]]\n", 2;
  const std::size_t count = std::stoul(argv[2]);
  caf::actor_system_config config;
  config.set("scheduler.policy", caf::atom("sharing"));
  caf::actor_system system(config);
  client::ClientOptions options;
  options.endpoints = {{environment("OUTLAST_ENDPOINT"), environment("OUTLAST_SERVER_KEY")}};
  options.virtual_key = environment("OUTLAST_KEY");
  std::vector<client::Client> models;
  for (std::size_t i = 0; i < clients; ++i) {
    const auto spawned = client::spawn(system, options);
    if (!spawned) return std::cerr << spawned.error().message << '\n', 2;
    models.push_back(*spawned);
  }
  client::ChatRequest request = client::ask(argv[1], "Say hello.");
  request.chat.max_tokens = std::stoull(argv[3]);
  if (argc > 4) request.chat.tags = {argv[4]};
  if (argc > 5) request.chat.session = argv[5];

  caf::scoped_actor self(system);
  std::map<std::string, std::size_t> ends;
  std::string message;
  const auto answered = [&ends](const client::ChatResponse&) { ++ends["ok"]; };
  const auto failed = [&ends, &message](const caf::error& error) {
    const auto failure = client::failure_of(error);
    ++ends[std::string(outlast::link::name_of(failure.kind))];
    message = failure.message;
  };
  using Handle = decltype(self->request(models[0], caf::infinite, request));
  std::vector<Handle> handles;
  for (std::size_t i = 0; i < count; ++i) handles.push_back(self->request(models[i % clients], caf::infinite, request));
  for (Handle& handle : handles) handle.receive(answered, failed);
  std::cout << '{';
  for (const auto& [kind, number] : ends) std::cout << '"' << kind << "\": " << number << ", ";
  std::cout << "\"message\": \"" << message << "\"}" << std::endl;
  return 0;
}
