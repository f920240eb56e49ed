// PeerNode: what the network thread keeps for one other node: where it is, the session with it and a sending DEALER per
// channel. Owned by whoever has PeerNetwork's turn.
#pragma once

#include <zmq.hpp>

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "cluster/peer_outbox.hpp"
#include "cluster/peer_session.hpp"

namespace outlast::cluster {

// What epoll reports: a channel of a node, or without a node one of the thread's own descriptors.
struct PeerWatch {
  struct PeerNode* node = nullptr;
  Channel channel = Channel::control;
};

// Three connections to one node, on which nothing is ever received.
class PeerSockets {
 public:
  // Begins to connect. Throws zmq::error_t, for example for an address that is none or without descriptors left.
  PeerSockets(zmq::context_t& context, const PeerAddress& address, const std::string& public_key,
              const std::string& secret_key, int poller, std::array<PeerWatch, channel_count>& watches);
  ~PeerSockets();
  PeerSockets(const PeerSockets&) = delete;
  PeerSockets& operator=(const PeerSockets&) = delete;

  // Connected and with room. Also takes note of what ZeroMQ's own thread said, as epoll demands.
  [[nodiscard]] bool writable(Channel channel);
  // False when it was lost.
  bool send(Channel channel, FramePtr message);

 private:
  void connect(Channel channel, const PeerAddress& address, const std::string& public_key,
               const std::string& secret_key);

  const int poller_;
  std::array<zmq::socket_t, channel_count> sockets_;
};

// ZeroMQ 4.3.4 never tries again after a handshake that was refused, for example by a node that does not know the key yet.
// So connections that do not come about are made anew, later each time. Only while no session is up: a connection that is
// merely full keeps what it holds.
inline constexpr std::int64_t renew_after_ns_min = 1'000'000'000;
inline constexpr std::int64_t renew_after_ns_max = 8'000'000'000;

struct PeerNode {
  PeerAddress address;
  std::array<PeerWatch, channel_count> watches;
  std::unique_ptr<PeerSession> session;  // none while it is cut off
  std::unique_ptr<PeerSockets> sockets;
  std::int64_t closed_until_ns = 0;
  std::array<bool, channel_count> writable{};
  std::int64_t unreachable_since_ns = 0;  // 0: every channel is connected, or the session is up
  std::int64_t renew_after_ns = renew_after_ns_min;
  std::array<std::string, channel_count> connections;  // the router's newest id of each incoming connection
  std::array<PeerOutbox::Held, channel_count> held;    // as the outbox knows it
  bool flush_due = false;
};

}  // namespace outlast::cluster
