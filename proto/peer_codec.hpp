// The messages of a link between two nodes, as plain structs, and their frames (proto/peer.capnp). Decoding bounds every
// size, tolerates kinds and channels of newer peers, and never throws.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/id.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::peer {

inline constexpr std::size_t channel_count = 3;
inline constexpr std::size_t name_bytes_max = 256;     // of clusters and nodes
inline constexpr std::size_t reason_bytes_max = 1024;  // of a goodbye; cut when it is longer
inline constexpr std::size_t frames_max = 1024;        // in one data message
// Beyond the frames themselves, no message is larger than this: its head, acknowledgements and frames_max pointers.
inline constexpr std::size_t overhead_bytes_max = 16U << 10;

// What arrived on one channel in the other direction.
struct Ack {
  std::uint64_t received = 1;    // every frame below this number
  std::uint32_t lost_round = 0;  // a gap was seen in this round: send again from `received` on; 0: none
  bool operator==(const Ack&) const = default;
};
using Acks = std::array<Ack, channel_count>;

struct Hello {
  std::string cluster;
  std::string node;
  Incarnation incarnation;
  std::uint16_t version_min = 0;
  std::uint16_t version_max = 0;
  std::uint8_t channel = 0;
  std::uint32_t frame_bytes_max = 0;
  bool operator==(const Hello&) const = default;
};
struct Welcome {
  std::uint16_t version = 0;
  std::uint8_t channel = 0;
  bool operator==(const Welcome&) const = default;
};
struct Data {
  std::uint8_t channel = 0;
  std::uint32_t round = 1;
  std::uint64_t first = 1;
  std::vector<FramePtr> frames;  // one at least
  bool ack_wanted = false;
  Acks acks;
};
struct Heartbeat {
  std::uint8_t channel = 0;
  std::uint32_t round = 1;
  std::uint64_t next = 1;
  Acks acks;
  bool operator==(const Heartbeat&) const = default;
};
struct Goodbye {
  std::string reason;
  bool operator==(const Goodbye&) const = default;
};

struct Message {
  std::uint64_t from = 0;  // session numbers: cluster/peer_session.hpp
  std::uint64_t to = 0;
  std::variant<Hello, Welcome, Data, Heartbeat, Goodbye> body;
};

// Errors: FrameError::too_large.
[[nodiscard]] Result<FramePtr> encode(const Message& message);

// Any bytes, of any alignment. The frames of a data message are copies. Errors: FrameError; unknown_kind also for a
// channel that this build does not have.
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes);

}  // namespace outlast::peer
