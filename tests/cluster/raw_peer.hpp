// RawPeer: a node that says whatever a test wants, with the key that the test gives it. It listens as a node does, so that
// it hears the other's hellos.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>

#include <zmq.hpp>

#include "core/id.hpp"
#include "proto/peer_codec.hpp"
#include "tests/cluster/test_peer.hpp"

namespace outlast::test {

class RawPeer {
 public:
  enum class Security { curve, plain, none };

  explicit RawPeer(std::string name, Security security = Security::curve)
      : name_(std::move(name)),
        security_(security),
        router_(context_, zmq::socket_type::router),
        dealer_(context_, zmq::socket_type::dealer) {
    router_.set(zmq::sockopt::linger, 0);
    router_.set(zmq::sockopt::curve_server, true);
    router_.set(zmq::sockopt::curve_secretkey, keys_.secret_key);
    router_.bind("tcp://127.0.0.1:0");
    dealer_.set(zmq::sockopt::linger, 0);
    dealer_.set(zmq::sockopt::sndhwm, 0);
  }

  [[nodiscard]] cluster::PeerAddress address() {
    return {name_, keys_.public_key, router_.get(zmq::sockopt::last_endpoint)};
  }
  void connect(TestPeer& node) {
    if (security_ == Security::curve) {
      dealer_.set(zmq::sockopt::curve_serverkey, node.keys().public_key);
      dealer_.set(zmq::sockopt::curve_publickey, keys_.public_key);
      dealer_.set(zmq::sockopt::curve_secretkey, keys_.secret_key);
    } else if (security_ == Security::plain) {
      dealer_.set(zmq::sockopt::plain_username, "admin");
      dealer_.set(zmq::sockopt::plain_password, "admin");
    }
    dealer_.connect(node.address().endpoint);
  }

  void send(const peer::Message& message) { send_bytes((*peer::encode(message))->bytes()); }
  void send_bytes(std::span<const std::byte> bytes, zmq::send_flags flags = zmq::send_flags::none) {
    (void)dealer_.send(zmq::buffer(bytes.data(), bytes.size()), flags);
  }
  [[nodiscard]] peer::Hello hello(std::uint8_t channel = 0) const {
    return {"test", name_, incarnation_, 1, 1, channel, 1U << 20};
  }
  // The next message of kind T that the node sends; nothing when none comes in time.
  template <class T>
  std::optional<std::pair<peer::Message, T>> receive(std::chrono::milliseconds patience = peer_patience) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (true) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(give_up - std::chrono::steady_clock::now());
      if (left.count() <= 0) return std::nullopt;
      router_.set(zmq::sockopt::rcvtimeo, static_cast<int>(left.count()));
      zmq::message_t part;
      if (!router_.recv(part)) return std::nullopt;
      if (!router_.recv(part)) return std::nullopt;
      auto message = peer::decode({static_cast<const std::byte*>(part.data()), part.size()});
      check(message.has_value(), "a node's messages decode");
      if (const auto* body = std::get_if<T>(&message->body)) return std::pair(*message, *body);
    }
  }
  // Says what brings a link up, when the node has said it on every channel: its connections stand then, and its number is known.
  bool greet() {
    for (std::set<std::uint8_t> channels; channels.size() < peer::channel_count;) {
      const auto heard = receive<peer::Hello>();
      if (!heard) return false;
      theirs_ = heard->first.from;
      channels.insert(heard->second.channel);
    }
    for (std::uint8_t c = 0; c < peer::channel_count; ++c) {
      send({session, theirs_, hello(c)});
      send({session, theirs_, peer::Welcome{1, c}});
    }
    return true;
  }
  [[nodiscard]] std::uint64_t theirs() const { return theirs_; }

  std::uint64_t session = 1'000;

 private:
  const std::string name_;
  const Security security_;
  const cluster::CurveKeys keys_ = cluster::make_curve_keys();
  const Incarnation incarnation_{{1, 2, 3}};
  std::uint64_t theirs_ = 0;
  zmq::context_t context_;
  zmq::socket_t router_;
  zmq::socket_t dealer_;
};

}  // namespace outlast::test
