// What every socket of a link has set, on both sides: bounded frames and queues, heartbeats, no lingering.
#pragma once

#include <zmq.hpp>

#include <cstddef>
#include <cstdint>

namespace outlast::cluster {

inline constexpr int heartbeat_interval_ms = 1'000;
inline constexpr int heartbeat_timeout_ms = 3'000;
inline constexpr int handshake_timeout_ms = 5'000;
inline constexpr int queued_frames_max = 1'000;  // in each direction, per peer; credit keeps them small

// Only who connects sends heartbeats, which also tell the other end when to give the connection up. libzmq 4.3.4 aborts
// the process when a heartbeat is due on a connection that broke while its input was stopped at the high-water mark:
// whoever binds must not have any, or a peer could bring it down.
enum class LinkEnd : std::uint8_t { connects, binds };

// Throws zmq::error_t.
inline void set_link_options(zmq::socket_t& socket, std::size_t frame_bytes_max, LinkEnd end) {
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(frame_bytes_max));
  socket.set(zmq::sockopt::sndhwm, queued_frames_max);
  socket.set(zmq::sockopt::rcvhwm, queued_frames_max);
  socket.set(zmq::sockopt::heartbeat_ivl, end == LinkEnd::connects ? heartbeat_interval_ms : 0);
  socket.set(zmq::sockopt::heartbeat_timeout, heartbeat_timeout_ms);
  socket.set(zmq::sockopt::heartbeat_ttl, heartbeat_timeout_ms);
  socket.set(zmq::sockopt::handshake_ivl, handshake_timeout_ms);
  socket.set(zmq::sockopt::linger, 0);  // durability is the ledger's; what is lost is asked again
}

}  // namespace outlast::cluster
