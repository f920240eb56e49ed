#include "cluster/link_socket.hpp"

#include <cstring>

#include "cluster/socket_options.hpp"

namespace outlast::cluster {
namespace {

// The happenings that decide; others are steps on the way.
constexpr int watched_events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                               ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                               ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED;

std::string reason_of(int event) {
  switch (event) {
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
      return "the CURVE handshake failed; is the server key that of the node?";
    case ZMQ_EVENT_CLOSED:
      return "the connection was refused";
    default:
      return "the connection was closed";
  }
}

}  // namespace

LinkSocket::LinkSocket(zmq::context_t& context, std::uint64_t connection, const std::string& address,
                       const std::string& server_key, const CurveKeys& own_keys)
    : connection_(connection),
      socket_(context, zmq::socket_type::dealer),
      monitor_(context, zmq::socket_type::pair) {
  set_link_options(socket_, frame_bytes_max, LinkEnd::connects);
  socket_.set(zmq::sockopt::curve_serverkey, server_key);
  socket_.set(zmq::sockopt::curve_publickey, own_keys.public_key);
  socket_.set(zmq::sockopt::curve_secretkey, own_keys.secret_key);
  socket_.set(zmq::sockopt::reconnect_ivl, -1);
  socket_.set(zmq::sockopt::immediate, true);
  const std::string monitor_address = "inproc://monitor-" + std::to_string(connection);
  if (zmq_socket_monitor(socket_.handle(), monitor_address.c_str(), watched_events) != 0) throw zmq::error_t();
  monitor_.set(zmq::sockopt::linger, 0);
  monitor_.connect(monitor_address);
  socket_.connect(address);
}

LinkSocket::~LinkSocket() {
  // First of all: a monitor whose reader has gone would block ZeroMQ's own thread at its next event.
  zmq_socket_monitor(socket_.handle(), nullptr, 0);
}

std::optional<LinkSocket::Happening> LinkSocket::next_happening() {
  zmq::message_t head;
  if (!monitor_.recv(head, zmq::recv_flags::dontwait)) return std::nullopt;
  std::uint16_t event = 0;
  if (head.size() >= sizeof event) std::memcpy(&event, head.data(), sizeof event);
  while (head.more()) {
    if (!monitor_.recv(head, zmq::recv_flags::none)) break;
  }
  if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) return Happening{true, {}};
  return Happening{false, reason_of(event)};
}

bool LinkSocket::send(const Frame& frame) {
  const auto bytes = frame.bytes();
  return zmq_send(socket_.handle(), bytes.data(), bytes.size(), ZMQ_DONTWAIT) >= 0;
}

bool LinkSocket::receive(zmq::message_t& body) { return socket_.recv(body, zmq::recv_flags::dontwait).has_value(); }

}  // namespace outlast::cluster
