// The messages of the control channel between nodes, as plain structs, and their frames (proto/ask.capnp). Decoding
// bounds every size, tolerates what newer nodes say, and never throws.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/money.hpp"
#include "core/node_report.hpp"
#include "core/result.hpp"
#include "core/virtual_key.hpp"
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
inline constexpr std::size_t spend_events_max = 1'024;  // of one batch
inline constexpr std::size_t told_max = 1'024;
inline constexpr std::size_t spend_texts_max = 16'384;  // more than so many events can name

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
// gateway::SpendEvent on its way. Of the key only its id and tenant travel; decoded events of one key share it.
struct SpendItem {
  std::shared_ptr<const VirtualKey> key;  // never null
  std::vector<std::string> tags;          // at most tags_max
  std::string session;
  std::string provider;
  std::string model;
  std::uint64_t conversation = 0;
  std::uint64_t request = 0;
  PicoUsd cost;
  std::uint32_t age_ms = 0;       // of the event when the batch was sent
  std::uint32_t duration_ms = 0;  // from the request's start to the event
  bool ended = false;
};
struct SpendBatch {
  std::uint64_t first = 0;  // the first event's number, counted over all that the sender's incarnation has told
  std::vector<SpendItem> events;
};
// People have been told of what spend breakers did.
struct Told {
  std::vector<std::string> deliveries;
};
using Message = std::variant<Ask, Answer, Failed, Cancel, Down, Workers, SpendBatch, Told>;

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
