// LinkSocket: one try of a client to reach an endpoint: a CURVE DEALER that never reconnects by itself, and the monitor
// that tells how its handshake went. The session decides when to try again. Owned by the network thread.
#pragma once

#include <zmq.hpp>

#include <cstdint>
#include <optional>
#include <string>

#include "cluster/curve.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

class LinkSocket {
 public:
  struct Happening {
    bool up = false;
    std::string reason;  // when it is not up
  };

  // Starts to connect. Throws zmq::error_t, for example for a name that cannot be resolved.
  LinkSocket(zmq::context_t& context, std::uint64_t connection, const std::string& address,
             const std::string& server_key, const CurveKeys& own_keys);
  ~LinkSocket();
  LinkSocket(const LinkSocket&) = delete;
  LinkSocket& operator=(const LinkSocket&) = delete;

  [[nodiscard]] std::uint64_t connection() const { return connection_; }
  // What the monitor has to say, oldest first; nothing when it has said all.
  [[nodiscard]] std::optional<Happening> next_happening();
  // False when the socket takes no more.
  [[nodiscard]] bool send(const Frame& frame);
  // False when nothing has arrived.
  [[nodiscard]] bool receive(zmq::message_t& body);

  [[nodiscard]] zmq::pollitem_t poll_socket() { return {socket_.handle(), 0, ZMQ_POLLIN, 0}; }
  [[nodiscard]] zmq::pollitem_t poll_monitor() { return {monitor_.handle(), 0, ZMQ_POLLIN, 0}; }
  // Closing waits so long, in its own time, for what was sent.
  void linger(int ms) { socket_.set(zmq::sockopt::linger, ms); }

 private:
  const std::uint64_t connection_;
  zmq::socket_t socket_;
  zmq::socket_t monitor_;
};

}  // namespace outlast::cluster
