// Drives a ClientSession by hand, for tests.
#pragma once

#include <catch2/catch.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cluster/client_session.hpp"
#include "cluster/curve.hpp"
#include "core/check.hpp"

namespace outlast::test {

using namespace outlast::cluster;
using link::ErrorKind;

inline constexpr std::uint64_t never = 0;

// The node of number i: the first are the seeds, so that their links have the same numbers.
inline Endpoint endpoint_of(std::size_t i) {
  std::string key = std::to_string(i);
  key.append(curve_key_text_size - key.size(), 'k');
  return {"tcp://node:" + std::to_string(1'000 + i), key};
}
inline link::NodeEntry entry_of(std::size_t i, bool draining = false) {
  return {"n" + std::to_string(i), endpoint_of(i).address, endpoint_of(i).server_key, draining};
}

inline SessionOptions options_for(std::size_t endpoints) {
  SessionOptions options;
  for (std::size_t i = 0; i < endpoints; ++i) options.endpoints.push_back(endpoint_of(i));
  options.virtual_key = "ol_key";
  options.client_name = "test";
  options.in_flight_max = 16;
  return options;
}

// Drives a session by hand: performs its effects into lists that a test reads.
struct Bench {
  explicit Bench(std::size_t endpoints = 1, SessionOptions options = {})
      : session(options.endpoints.empty() ? options_for(endpoints) : options, clock, 1),
        connections(endpoints, never),
        sent(endpoints),
        targets(endpoints) {}

  void perform() {
    for (Effect& effect : session.take_effects()) {
      if (const auto* connect = std::get_if<Connect>(&effect)) {
        if (connect->endpoint >= connections.size()) {
          connections.resize(connect->endpoint + 1, never);
          sent.resize(connect->endpoint + 1);
          targets.resize(connect->endpoint + 1);
        }
        connections[connect->endpoint] = connect->connection;
        targets[connect->endpoint] = connect->target;
      } else if (const auto* disconnect = std::get_if<Disconnect>(&effect)) {
        connections[disconnect->endpoint] = never;
      } else if (const auto* frame = std::get_if<SendFrame>(&effect)) {
        sent[frame->endpoint].push_back(*link::decode_from_client(frame->frame->bytes()));
      } else if (auto* deliver = std::get_if<Deliver>(&effect)) {
        delivered.push_back(std::move(*deliver));
      } else {
        ended.push_back(std::move(std::get<Ended>(effect)));
      }
    }
  }
  void tick() {
    session.tick();
    perform();
  }
  void advance_ms(std::int64_t ms) {
    clock.advance_ms(ms);
    tick();
  }
  void say(std::size_t endpoint, link::NodeMessage message, std::size_t bytes = 100) {
    session.received(endpoint, connections[endpoint], std::move(message), bytes);
    perform();
  }
  void bring_up(std::size_t endpoint) {
    tick();
    check(connections[endpoint] != never, "the session connects");
    session.connected(endpoint, connections[endpoint]);
    perform();
    check(std::holds_alternative<link::Hello>(sent[endpoint].back()), "a hello comes first");
    say(endpoint, link::Welcome{1, "n" + std::to_string(endpoint), {}});
  }
  void tell(std::size_t endpoint, std::uint64_t version, std::vector<link::NodeEntry> nodes) {
    say(endpoint, link::Nodes{version, std::move(nodes)});
    tick();
  }
  // The link that is open, or being opened, to the node of number i.
  std::optional<std::size_t> link_to(std::size_t i) {
    for (std::size_t link = 0; link < targets.size(); ++link) {
      if (connections[link] != never && targets[link] == endpoint_of(i)) return link;
    }
    return std::nullopt;
  }
  void lose(std::size_t endpoint) {
    session.disconnected(endpoint, connections[endpoint], "cut");
    perform();
  }
  void submit(std::uint64_t id, std::uint32_t timeout_ms = 10'000) {
    chat::Request request;
    request.model = "m" + std::to_string(id);
    session.submit(id, request, timeout_ms);
    perform();
  }
  // The wire id of the last chat sent there; 0 when the last message is another.
  std::uint64_t last_chat(std::size_t endpoint) {
    if (sent[endpoint].empty()) return 0;
    const auto* chat = std::get_if<link::Chat>(&sent[endpoint].back());
    return chat == nullptr ? 0 : chat->request_id;
  }
  ErrorKind failure() {
    check(ended.size() == 1, "one request ended", std::to_string(ended.size()));
    return std::get<ChatFailure>(ended[0].outcome).kind;
  }

  ManualClock clock;
  ClientSession session;
  std::vector<std::uint64_t> connections;
  std::vector<std::vector<link::ClientMessage>> sent;
  std::vector<Endpoint> targets;
  std::vector<Deliver> delivered;
  std::vector<Ended> ended;
};

inline link::Events text(std::uint64_t wire_id, std::uint32_t sequence, std::string words = "word") {
  return {wire_id, sequence, {chat::TextDelta{std::move(words)}}, 0};
}
inline link::Events finish(std::uint64_t wire_id, std::uint32_t sequence) { return {wire_id, sequence, {chat::Finish{}}, 0}; }

}  // namespace outlast::test
