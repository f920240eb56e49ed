// PeerSession: the protocol of a link with one other node, without sockets, threads or a clock of its own, so that it
// runs under virtual time.
//
// Each node has connections of its own to the other, one per channel, on which it only sends; what it hears comes over
// the connections that the other node made. So no node waits for the other to connect, nobody needs a rule who connects,
// and every message carries the key of its sender (cluster/peer_network.hpp). The price is six connections per pair
// instead of three.
//
// A session is a pair of numbers, one made by each node. A node says hello on every channel with its number; the other
// answers with a welcome on the channel of the same number. The session is up when every channel was heard from and
// every channel was welcomed; anything but a hello or a welcome says that the other node is up, and that implies both. A
// node that gives up a session (silence, a new incarnation, a lie) takes a new number, which makes the other node give it
// up too. Messages of any other pair of numbers are leftovers and are ignored: so nothing of an old session reaches a new
// one, whatever connections still hold.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/peer_channel.hpp"
#include "cluster/peer_links.hpp"
#include "core/id.hpp"
#include "core/result.hpp"
#include "proto/peer_codec.hpp"

namespace outlast::cluster {

inline constexpr std::uint32_t hello_interval_ms_max = 100;  // until a session is up; less with quick heartbeats
inline constexpr std::size_t ended_incarnations_max = 8;     // remembered, so that they do not end the link with a later one
// Acknowledgements ride on data the other way; without any, so much may arrive before one goes by itself.
inline constexpr std::size_t unreported_frames_max = 256;
inline constexpr std::size_t unreported_bytes_max = 256U << 10;

// Numbers of sessions of one process: they count up from a half of its incarnation, which is random. One owner.
class SessionNumbers {
 public:
  explicit SessionNumbers(const Incarnation& incarnation);
  std::uint64_t next() { return ++last_; }

 private:
  std::uint64_t last_;
};

struct PeerSessionOptions {
  std::string cluster;
  std::string node;  // this one
  std::string peer;  // whose key it is
  Incarnation incarnation;
  std::uint16_t version_min = link_version_min;
  std::uint16_t version_max = link_version_max;
  PeerLimits limits;
};

// One owner. What it is given outlives it; handlers are called within receive(), tick() and end().
class PeerSession {
 public:
  PeerSession(PeerSessionOptions options, SessionNumbers& numbers, const PeerHandlers& handlers,
              PeerCounters& counters, std::int64_t now_ns);

  // A message that came with the peer's key. FrameError::malformed when it lies: the caller ends the session.
  [[nodiscard]] Result<void> receive(peer::Message message, std::int64_t now_ns);
  // Makes hellos and heartbeats due, and ends what was silent for too long. To be called several times per heartbeat: a
  // longer gap means that this process stood still, and is not taken for the peer's silence.
  void tick(std::int64_t now_ns);
  // Only while up. Errors: LinkError::overloaded.
  [[nodiscard]] Result<void> queue(Channel channel, FramePtr frame);
  // Gives up: on_down if it is up, and a goodbye is due. Nothing else happens afterwards.
  void end(const std::string& why);

  // What is to be sent over a channel's connection; next() when has_output() holds. What next() gave may be lost.
  [[nodiscard]] bool has_output(Channel channel) const;
  [[nodiscard]] peer::Message next(Channel channel, std::int64_t now_ns);
  // An acknowledgement is due and was not part of any message: ask after all channels had their turn.
  [[nodiscard]] bool ack_due() const { return up_ && ack_due_; }
  [[nodiscard]] peer::Message ack_message(std::int64_t now_ns);
  // The connection can send again; it may have been another before, and what that held is lost.
  void on_writable(Channel channel);

  [[nodiscard]] bool is_up() const { return up_; }
  // No larger frame is taken by either node.
  [[nodiscard]] std::size_t frame_bytes_max() const;
  // Waiting or not acknowledged.
  [[nodiscard]] std::size_t queued_frames(Channel channel) const { return out_[index(channel)].frames(); }
  [[nodiscard]] std::size_t queued_bytes(Channel channel) const { return out_[index(channel)].bytes(); }

 private:
  struct Remote {
    Incarnation incarnation;
    std::uint64_t session = 0;
    std::uint16_t version = 0;
    std::uint32_t frame_bytes_max = 0;
    bool ended = false;  // it said goodbye: only a later session counts
  };
  struct Refusal {
    std::uint64_t to = 0;
    std::string reason;
  };
  using Flags = std::array<bool, channel_count>;

  static std::size_t index(Channel channel) { return static_cast<std::size_t>(channel); }
  [[nodiscard]] bool in_session(const peer::Message& message) const;
  Result<void> on_hello(std::uint64_t from, peer::Hello hello, std::int64_t now_ns);
  [[nodiscard]] std::string refusal_of(const peer::Hello& hello) const;
  void refuse(std::uint64_t from, std::uint8_t channel, std::string reason);
  [[nodiscard]] bool is_news(std::uint64_t from, const Incarnation& incarnation) const;
  void meet(std::uint64_t from, const peer::Hello& hello);
  Result<void> on_data(peer::Data data);
  Result<void> on_heartbeat(const peer::Heartbeat& heartbeat);
  Result<void> on_acks(const peer::Acks& acks);
  void on_goodbye(const peer::Message& message, const std::string& reason);
  void up_if_complete(std::int64_t now_ns);
  void go_up(std::int64_t now_ns);
  void go_down(const std::string& why);
  [[nodiscard]] peer::Acks acks();
  [[nodiscard]] peer::Message data_of(std::size_t channel);
  [[nodiscard]] peer::Message heartbeat_of(std::size_t channel);
  [[nodiscard]] bool hello_allowed(std::int64_t now_ns);

  const PeerSessionOptions options_;
  SessionNumbers& numbers_;
  const PeerHandlers& handlers_;
  PeerCounters& counters_;

  std::uint64_t session_;
  std::optional<Remote> remote_;
  std::vector<Incarnation> ended_incarnations_;
  Peer peer_;
  bool up_ = false;
  bool over_ = false;  // by end()
  Flags heard_{};      // a hello of this session came
  Flags welcomed_{};   // ours was answered

  std::array<SendChannel, channel_count> out_;
  std::array<ReceiveChannel, channel_count> in_;
  std::size_t unreported_frames_ = 0;
  std::size_t unreported_bytes_ = 0;
  bool ack_due_ = false;

  Flags hello_due_{};
  Flags welcome_due_{};
  Flags heartbeat_due_{};
  std::array<std::optional<Refusal>, channel_count> refusals_;
  std::string last_refusal_;  // logged once
  std::int64_t next_hello_ns_ = 0;
  std::int64_t last_tick_ns_ = 0;
  std::array<std::int64_t, channel_count> last_heard_ns_{};
  std::array<std::int64_t, channel_count> last_sent_ns_{};
  std::int64_t hello_second_ns_ = 0;
  std::size_t hellos_this_second_ = 0;
};

}  // namespace outlast::cluster
