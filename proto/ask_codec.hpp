// The messages of the control channel between nodes, as plain structs, and their frames (proto/ask.capnp). Decoding
// bounds every size, tolerates what newer nodes say, and never throws.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/node_report.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::ask {

// Over its limit a text of an error is cut; anything else is FrameError::too_large, on both sides.
inline constexpr std::size_t name_bytes_max = 256;  // of actors, nodes, workers, devices, roles, capabilities, modules
inline constexpr std::size_t error_message_bytes_max = 4'096;
inline constexpr std::size_t body_bytes_max = (8u << 20) - 16'384;  // so that the frame fits PeerLimits::frame_bytes_max
inline constexpr std::size_t workers_max = 256;  // of one node
inline constexpr std::size_t capabilities_max = 64;
inline constexpr std::size_t roles_max = 16;
inline constexpr std::size_t shards_max = 2'048;

struct Ask {
  std::uint64_t id = 0;
  std::string actor;
  std::uint16_t method = 0;
  std::uint32_t deadline_ms = 0;  // from arrival
  FramePtr body;                  // null: empty
};
struct Answer {
  std::uint64_t id = 0;
  FramePtr body;  // null: empty
};
struct Failed {
  std::uint64_t id = 0;
  Error error;
  bool from_actor = false;  // the actor's own answer; else it gave none
};
struct Cancel {
  std::uint64_t id = 0;
};
struct Down {
  std::string actor;
  std::string why;
};
struct Workers {
  std::uint64_t version = 0;
  std::vector<WorkerDescription> workers;
};
using Message = std::variant<Ask, Answer, Failed, Cancel, Down, Workers>;

// Errors: FrameError.
[[nodiscard]] Result<FramePtr> encode(const Message& message);
// Any bytes, of any alignment. Bodies are copies. The module of an error is "remote" where this node knows none of that
// name. Errors: FrameError.
[[nodiscard]] Result<Message> decode(std::span<const std::byte> bytes);

// The module's name in static storage, as Error keeps it; "remote" when this node knows none of that name.
[[nodiscard]] std::string_view known_module(std::string_view name);

// Bodies.
[[nodiscard]] Result<FramePtr> encode_body(const NodeReport& report);
[[nodiscard]] Result<FramePtr> encode_body(const WorkerDescription& worker);
struct WorkerBody {
  std::uint16_t method = 0;
  FramePtr body;  // null: empty; never null when it was decoded
};
[[nodiscard]] Result<FramePtr> encode_body(const WorkerBody& body);

[[nodiscard]] Result<NodeReport> decode_node_report(std::span<const std::byte> bytes);
[[nodiscard]] Result<WorkerDescription> decode_worker(std::span<const std::byte> bytes);
[[nodiscard]] Result<WorkerBody> decode_worker_body(std::span<const std::byte> bytes);

}  // namespace outlast::ask
