// PeerLinks: links between the nodes of a cluster. Each pair of nodes has a connection per channel; one network thread
// owns all sockets. CURVE with a ZAP handler and an allow-list: a key that is not on it gets nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/link_error.hpp"
#include "core/clock.hpp"
#include "core/id.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

// Connections of their own, so that none waits behind another.
enum class Channel : std::uint8_t { control = 0, ledger = 1, stream = 2 };
inline constexpr std::size_t channel_count = 3;

// What this build speaks. A link uses the highest version that both know; nodes without one do not link.
inline constexpr std::uint16_t link_version_min = 1;
inline constexpr std::uint16_t link_version_max = 2;

struct PeerAddress {
  std::string node;
  std::string public_key;  // CURVE, Z85
  std::string endpoint;    // tcp://HOST:PORT
  bool operator==(const PeerAddress&) const = default;
};

struct Peer {
  std::string node;
  Incarnation incarnation;
  std::uint16_t version = 0;  // agreed on
};

struct PeerLimits {
  std::size_t frame_bytes_max = 8U << 20;
  std::size_t queue_frames_max = 65'536;     // per peer and channel, waiting or not acknowledged
  std::size_t queue_bytes_max = 64U << 20;
  std::size_t hellos_per_s_max = 100;        // from one node, so that a hostile one does not keep others out
  std::uint32_t heartbeat_ms = 500;
  std::uint32_t silence_ms_max = 3'000;      // a peer that says nothing for so long on any channel is down
  std::uint32_t cut_off_ms = 10'000;         // how long nothing is heard from or said to a peer that lied
};

struct PeerLinkOptions {
  std::string listen;      // tcp://HOST:PORT; port 0 takes a free one
  std::string secret_key;  // CURVE, Z85
  std::string cluster;
  std::string node;
  Incarnation incarnation;
  std::uint16_t version_min = link_version_min;
  std::uint16_t version_max = link_version_max;
  PeerLimits limits;
};

// Called on the network thread; must not block. All three are needed.
struct PeerHandlers {
  // Both nodes know each other's incarnation; all channels are up.
  std::function<void(const Peer&)> on_up;
  // The incarnation is gone, or was silent for too long: what was not acknowledged may or may not have arrived, and
  // nothing more of it will. Comes once after each on_up.
  std::function<void(const Peer&, const std::string& why)> on_down;
  // Between on_up and on_down every frame that was sent arrives once and in order within its channel, although
  // connections break meanwhile.
  std::function<void(const Peer&, Channel, FramePtr)> on_frame;
};

struct PeerCounters {
  std::uint64_t peers_up = 0;  // now
  std::uint64_t frames_sent = 0;
  std::uint64_t frames_received = 0;
  std::uint64_t frames_resent = 0;
  std::uint64_t duplicates = 0;          // received again and dropped
  std::uint64_t malformed = 0;           // frames that lie; their peer is cut off
  std::uint64_t ignored = 0;             // messages of a node that was let in once and takes part no more
  std::uint64_t strangers_refused = 0;   // handshakes with a key that is not on the list, or without CURVE
  std::uint64_t hellos_refused = 0;      // wrong cluster, version, name or rate
  std::uint64_t reconnects = 0;          // of a peer to this node, per channel
  std::uint64_t overloaded = 0;          // sends refused by a full queue
};

// Any thread.
class PeerLinks {
 public:
  // Binds and starts the thread. `clock` outlives it. Errors: LinkError.
  [[nodiscard]] static Result<std::unique_ptr<PeerLinks>> start(PeerLinkOptions options, const Clock& clock,
                                                                PeerHandlers handlers);
  // Says goodbye to every peer, calls on_down for each that is up, and joins the thread.
  virtual ~PeerLinks() = default;

  // The whole allow-list, without this node; whom to link to. Those who are no longer on it are dropped at once: on_down
  // is called, their connections are closed, what they still say is ignored and their key is refused from then on. A
  // node whose key or endpoint changed is dropped and linked to anew.
  virtual void set_peers(std::vector<PeerAddress> peers) = 0;
  // Queues a frame for the session that is up now. Errors: LinkError (not connected; the queue is full), or
  // FrameError::too_large. Handlers may call it.
  virtual Result<void> send(const std::string& node, Channel channel, FramePtr frame) = 0;
  [[nodiscard]] virtual std::vector<Peer> up() const = 0;
  [[nodiscard]] virtual PeerCounters counters() const = 0;
  // With the port that was taken.
  [[nodiscard]] virtual const std::string& endpoint() const = 0;
};

}  // namespace outlast::cluster
