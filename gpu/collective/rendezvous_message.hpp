// What ranks and their rendezvous say to each other, as bytes: a length, "OR", a version, a kind and fields, little-endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gpu {

inline constexpr std::size_t rendezvous_key_bytes_max = 256;
inline constexpr std::size_t rendezvous_message_bytes_max = 64U << 10;

// Append-only: it crosses the wire.
enum class RendezvousKind : std::uint8_t {
  // From a rank
  join = 1,   // key: the run; generation: the one that it is in, 0 for none
  put = 2,    // key, value
  get = 3,    // key
  leave = 4,
  beat = 5,   // it lives
  // To a rank
  formed = 6,     // generation, rank, ranks
  value = 7,      // key, value
  ended = 8,      // generation
  may_leave = 9,
  refused = 10,   // value: why
  lost = 11,      // value: why it was taken for lost
};
inline constexpr auto last_rendezvous_kind = RendezvousKind::lost;

struct RendezvousMessage {
  RendezvousKind kind = RendezvousKind::beat;
  std::uint64_t generation = 0;
  std::uint32_t rank = 0;
  std::uint32_t ranks = 0;
  std::string key;
  std::string value;
  bool operator==(const RendezvousMessage&) const = default;
};

// With its length. Larger than the limits is a bug.
std::string encode(const RendezvousMessage& message);

// Bytes as they come in, and the messages in them. One owner.
class RendezvousReader {
 public:
  void append(std::string_view bytes) { bytes_ += bytes; }
  // The next whole message, if there is one. Errors: malformed; then nothing that follows can be understood.
  Result<std::optional<RendezvousMessage>> next();

 private:
  std::string bytes_;
};

}  // namespace outlast::gpu
