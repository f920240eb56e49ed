// RawClient: a DEALER that says whatever a test wants to a listener.
#pragma once

#include <optional>
#include <span>
#include <string>

#include <zmq.hpp>

#include "cluster/curve.hpp"
#include "proto/link_codec.hpp"
#include "tests/cluster/fake_node.hpp"

namespace outlast::test {

class RawClient {
 public:
  enum class Security { curve, none };

  explicit RawClient(const FakeNode& node, Security security = Security::curve)
      : socket_(context_, zmq::socket_type::dealer) {
    socket_.set(zmq::sockopt::linger, 0);
    if (security == Security::curve) {
      const cluster::CurveKeys own = cluster::make_curve_keys();
      socket_.set(zmq::sockopt::curve_serverkey, node.keys().public_key);
      socket_.set(zmq::sockopt::curve_publickey, own.public_key);
      socket_.set(zmq::sockopt::curve_secretkey, own.secret_key);
    }
    socket_.connect(node.endpoint());
  }

  void send(const link::ClientMessage& message) { send_bytes((*link::encode(message))->bytes()); }
  void send_bytes(std::span<const std::byte> bytes) {
    socket_.send(zmq::buffer(bytes.data(), bytes.size()), zmq::send_flags::none);
  }
  std::optional<link::NodeMessage> receive(std::chrono::milliseconds wait = patience) {
    const auto give_up = std::chrono::steady_clock::now() + wait;
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(give_up - std::chrono::steady_clock::now());
      socket_.set(zmq::sockopt::rcvtimeo, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
      zmq::message_t body;
      if (!socket_.recv(body)) return std::nullopt;
      auto message = link::decode_from_node({static_cast<const std::byte*>(body.data()), body.size()});
      check(message.has_value(), "the node sends frames that decode");
      if (!std::holds_alternative<link::Ping>(*message)) return std::move(*message);
    }
  }
  // The next message as a T; fails the test's check when it is something else.
  template <class T>
  T expect() {
    auto message = receive();
    check(message.has_value(), "the node answers in time");
    check(std::holds_alternative<T>(*message), "the answer is of the expected kind", std::to_string(message->index()));
    return std::get<T>(std::move(*message));
  }
  void hello(std::string key = good_key) { send(link::Hello{link::protocol_version, std::move(key), "raw", {}}); }
  link::Welcome greet() {
    hello();
    return expect<link::Welcome>();
  }

 private:
  zmq::context_t context_;
  zmq::socket_t socket_;
};

inline link::Chat chat_of(std::uint64_t id, link::Credit credit = link::credit_window) {
  link::Chat chat;
  chat.request_id = id;
  chat.request.model = "smart";
  chat.request.messages.push_back({chat::Role::user, {chat::Text{"hello"}}});
  chat.deadline_ms = 60'000;
  chat.credit = credit;
  return chat;
}

}  // namespace outlast::test
