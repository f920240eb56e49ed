// The messages by which a node joins a cluster, as plain structs, and their frames (proto/join.capnp).
// Decoding bounds every size, tolerates enumerants of newer peers, and never throws.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::join {

inline constexpr std::uint16_t version_min = 1;
inline constexpr std::uint16_t version_max = 1;

inline constexpr std::size_t request_bytes_max = 8U << 10;  // of a frame
inline constexpr std::size_t answer_bytes_max = 4U << 20;
inline constexpr std::size_t text_bytes_max = 1'024;        // of names, endpoints and messages
inline constexpr std::size_t roles_max = 8;
inline constexpr std::size_t nodes_max = 8'192;
inline constexpr std::size_t settings_max = 64;
inline constexpr std::size_t setting_bytes_max = 4U << 10;  // larger ones come with the control log
inline constexpr std::size_t secret_size = 32;

using Secret = std::array<std::uint8_t, secret_size>;

struct Request {
  std::uint16_t version_min = join::version_min;
  std::uint16_t version_max = join::version_max;
  std::string token_id;
  Secret secret{};
  std::string name;
  std::string endpoint;
  std::vector<std::string> roles;
  std::string software;
  bool operator==(const Request&) const = default;
};

struct Node {
  std::string name;
  std::string public_key;
  std::string endpoint;
  bool operator==(const Node&) const = default;
};

struct Welcome {
  std::uint16_t version = join::version_max;
  std::string cluster;
  std::string secret;  // never logged
  std::vector<Node> nodes;
  std::map<std::string, std::string> settings;
  bool operator==(const Welcome&) const = default;
};

// Append-only: it crosses the wire. An unknown one reads as `internal`.
enum class RefusalKind : std::uint16_t {
  internal = 0,
  bad_token = 1,            // unknown, used, expired, or with a wrong secret: which of these is nobody's business
  taken = 2,                // the name or the key is another node's
  key_revoked = 3,
  invalid = 4,              // a name, an address or a role is not one
  unsupported_version = 5,
  busy = 6,                 // try again in a while
};

struct Refused {
  RefusalKind kind = RefusalKind::internal;
  std::string message;
  bool operator==(const Refused&) const = default;
};

using Answer = std::variant<Welcome, Refused>;

// FrameError::too_large when a count, a text or the frame is over its limit. Messages of refusals are cut.
[[nodiscard]] Result<FramePtr> encode(const Request& request);
[[nodiscard]] Result<FramePtr> encode(const Answer& answer);

// Any bytes, of any alignment. Errors: FrameError.
[[nodiscard]] Result<Request> decode_request(std::span<const std::byte> bytes);
[[nodiscard]] Result<Answer> decode_answer(std::span<const std::byte> bytes);

}  // namespace outlast::join
