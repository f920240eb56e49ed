#include "cluster/peer_node.hpp"

#include <sys/epoll.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "cluster/socket_options.hpp"
#include "core/check.hpp"

namespace outlast::cluster {
namespace {

constexpr int queued_messages_max = 64;  // beyond them frames wait in the session, where they still can be batched
constexpr int reconnect_ms_min = 100;
// A link that was cut is back within a second or two of its mending: until then a gateway that is cut off has what it answers on
// one disk only. The kernel alone would try again after as long as the cut had lasted.
constexpr int reconnect_ms_max = 500;
constexpr int connect_timeout_ms = 1'000;
// A connection that died without a word is closed by the kernel, so that it is made anew: the session's heartbeats are on
// their way on it. Not by ZeroMQ's heartbeats: a ping that waits at a receiver whose queue is full, when the connection
// breaks, ends the receiving process (libzmq 4.3.4 asserts !_io_error when it answers such a ping).
constexpr int unacknowledged_ms_max = 3'000;
constexpr int goodbye_linger_ms = 200;           // so that a goodbye leaves
constexpr std::size_t received_bytes_max = 256;  // nothing is ever received here
constexpr std::size_t copied_bytes_max = 512;    // larger messages lend their memory to ZeroMQ

void release(void*, void* frame) { delete static_cast<FramePtr*>(frame); }

}  // namespace

PeerSockets::PeerSockets(zmq::context_t& context, const PeerAddress& address, const std::string& public_key,
                         const std::string& secret_key, int poller,
                         std::array<PeerWatch, channel_count>& watches)
    : poller_(poller) {
  for (std::size_t c = 0; c < channel_count; ++c) {
    sockets_[c] = zmq::socket_t(context, zmq::socket_type::dealer);
    connect(static_cast<Channel>(c), address, public_key, secret_key);
  }
  // Last, so that a constructor that throws leaves nothing in the poller.
  for (std::size_t c = 0; c < channel_count; ++c) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &watches[c];
    check(::epoll_ctl(poller_, EPOLL_CTL_ADD, sockets_[c].get(zmq::sockopt::fd), &event) == 0,
          "a socket can be watched", std::strerror(errno));
  }
}

PeerSockets::~PeerSockets() {
  // Before they close, which ZeroMQ does in its own time.
  for (zmq::socket_t& socket : sockets_) ::epoll_ctl(poller_, EPOLL_CTL_DEL, socket.get(zmq::sockopt::fd), nullptr);
}

void PeerSockets::connect(Channel channel, const PeerAddress& address, const std::string& public_key,
                          const std::string& secret_key) {
  zmq::socket_t& socket = sockets_[static_cast<std::size_t>(channel)];
  set_link_options(socket, received_bytes_max, LinkEnd::connects);
  socket.set(zmq::sockopt::sndhwm, queued_messages_max);
  socket.set(zmq::sockopt::rcvhwm, 1);
  socket.set(zmq::sockopt::heartbeat_ivl, 0);
  socket.set(zmq::sockopt::tcp_maxrt, unacknowledged_ms_max);
  socket.set(zmq::sockopt::linger, goodbye_linger_ms);
  socket.set(zmq::sockopt::immediate, true);
  // ZeroMQ's threads: what encrypts bulk does not encrypt anything else.
  socket.set(zmq::sockopt::affinity, std::uint64_t{channel == Channel::stream ? 2U : 1U});
  socket.set(zmq::sockopt::reconnect_ivl, reconnect_ms_min);
  socket.set(zmq::sockopt::reconnect_ivl_max, reconnect_ms_max);
  socket.set(zmq::sockopt::connect_timeout, connect_timeout_ms);
  if (address.endpoint.find('[') != std::string::npos) socket.set(zmq::sockopt::ipv6, true);
  socket.set(zmq::sockopt::curve_serverkey, address.public_key);
  socket.set(zmq::sockopt::curve_publickey, public_key);
  socket.set(zmq::sockopt::curve_secretkey, secret_key);
  socket.connect(address.endpoint);
}

bool PeerSockets::writable(Channel channel) {
  return (sockets_[static_cast<std::size_t>(channel)].get(zmq::sockopt::events) & ZMQ_POLLOUT) != 0;
}

bool PeerSockets::send(Channel channel, FramePtr message) {
  void* const socket = sockets_[static_cast<std::size_t>(channel)].handle();
  const auto bytes = message->bytes();
  if (bytes.size() <= copied_bytes_max) return zmq_send(socket, bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0;
  // ZeroMQ encrypts from this memory and writes nothing to it.
  auto* const owner = new FramePtr(std::move(message));
  zmq_msg_t lent;
  check(zmq_msg_init_data(&lent, const_cast<std::byte*>(bytes.data()), bytes.size(), release, owner) == 0,
        "a message can be made");
  if (zmq_msg_send(&lent, socket, ZMQ_DONTWAIT) >= 0) return true;
  zmq_msg_close(&lent);
  return false;
}

}  // namespace outlast::cluster
