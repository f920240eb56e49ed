// The messages between a service's client and a node, as plain structs, and their frames (proto/link.capnp).
// Decoding bounds every size, tolerates kinds and enumerants of newer peers, and never throws.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "core/chat.hpp"
#include "core/id.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::link {

inline constexpr std::uint32_t protocol_version = 1;

// A count of text, messages, parts, tools, events or stops over its limit is FrameError::too_large.
inline constexpr std::size_t name_bytes_max = 256;  // of virtual keys, client, node and deployment names
inline constexpr std::size_t error_message_bytes_max = 4096;
inline constexpr std::size_t messages_max = 10'000;
inline constexpr std::size_t parts_max = 10'000;  // in one message
inline constexpr std::size_t tools_max = 2'000;
inline constexpr std::size_t stops_max = 64;
inline constexpr std::size_t events_max = 4'096;  // in one frame
inline constexpr std::size_t nodes_max = 256;     // in one list

// What a receiver lets its sender send: `chunks` events, in frames of `bytes` in all (the last one may go over).
struct Credit {
  std::uint32_t chunks = 0;
  std::uint32_t bytes = 0;
  bool operator==(const Credit&) const = default;
};
inline constexpr Credit credit_window{64, 256u << 10};

// Append-only: it crosses the wire. An unknown one reads as `internal`.
enum class ErrorKind : std::uint16_t {
  internal = 0,
  unauthenticated = 1,    // the virtual key is unknown, mistyped or revoked
  invalid_request = 2,    // the caller's fault: trying again as it is cannot succeed
  unknown_model = 3,      // neither a route nor a model
  overloaded = 4,         // a limit of the node or of this link
  deadline_exceeded = 5,
  draining = 6,           // the node takes no new requests
  provider_failed = 7,    // every deployment of the plan failed
  cut = 8,                // the provider failed after the first content
  slow_consumer = 9,      // no credit for too long
  protocol = 10,          // the peer broke the order of messages
  rate_limited = 11,
  over_budget = 12,
  unsupported_version = 13,
  cancelled = 14,
  unreachable = 15,       // said by the client itself: no node could be reached
  link_lost = 16,         // said by the client itself: the link died after the first content
};
[[nodiscard]] std::string_view name_of(ErrorKind kind);

// Client to node.
struct Hello {
  std::uint32_t version = protocol_version;
  std::string virtual_key;  // a secret
  std::string client_name;
  Incarnation incarnation;
  bool operator==(const Hello&) const = default;
};
struct Chat {
  std::uint64_t request_id = 0;
  chat::Request request;
  std::uint32_t deadline_ms = 0;  // from arrival
  Credit credit = credit_window;
  bool operator==(const Chat&) const = default;
};
struct Grant {
  std::uint64_t request_id = 0;
  Credit credit;
  bool operator==(const Grant&) const = default;
};
struct Cancel {
  std::uint64_t request_id = 0;
  bool operator==(const Cancel&) const = default;
};

// Either way.
struct Ping {
  std::uint64_t number = 0;
  bool operator==(const Ping&) const = default;
};
struct Pong {
  std::uint64_t number = 0;
  bool operator==(const Pong&) const = default;
};

// Node to client.
struct Welcome {
  std::uint32_t version = protocol_version;
  std::string node_name;
  Incarnation incarnation;
  bool operator==(const Welcome&) const = default;
};
struct Events {
  std::uint64_t request_id = 0;
  std::uint32_t sequence = 0;
  std::vector<chat::Event> events;
  std::uint32_t unknown = 0;  // decoding: events of newer kinds that were left out; they count for credit
  bool operator==(const Events&) const = default;
};
struct Done {
  std::uint64_t request_id = 0;
  std::string deployment;
  std::uint32_t attempts = 0;
  RequestId ledger_id;
  bool operator==(const Done&) const = default;
};
struct RequestError {
  std::uint64_t request_id = 0;  // 0: the link itself
  ErrorKind kind = ErrorKind::internal;
  std::string message;
  bool retryable = false;
  std::uint32_t retry_after_ms = 0;  // 0: unknown
  bool operator==(const RequestError&) const = default;
};
struct Goodbye {
  std::string reason;
  bool operator==(const Goodbye&) const = default;
};

// A node that takes clients.
struct NodeEntry {
  std::string name;
  std::string address;     // "tcp://HOST:PORT"
  std::string public_key;  // CURVE, Z85
  bool draining = false;   // takes no new requests
  bool operator==(const NodeEntry&) const = default;
};
// All of them. Told after the welcome, and whenever the list changes; older clients ignore it.
struct Nodes {
  std::uint64_t version = 0;  // the list with the highest is the newest, whichever node told it
  std::vector<NodeEntry> nodes;
  bool operator==(const Nodes&) const = default;
};

using ClientMessage = std::variant<Hello, Chat, Grant, Cancel, Ping, Pong>;
using NodeMessage = std::variant<Welcome, Events, Done, RequestError, Ping, Pong, Goodbye, Nodes>;

// FrameError::too_large when a request is over the counts above or the frame would exceed frame_bytes_max. Other names and error messages over their limit are
// cut, since they are labels.
[[nodiscard]] Result<FramePtr> encode(const ClientMessage& message);
[[nodiscard]] Result<FramePtr> encode(const NodeMessage& message);

// An Events frame without copying the events into a message first.
[[nodiscard]] Result<FramePtr> encode_events(std::uint64_t request_id, std::uint32_t sequence,
                                             std::span<const chat::Event> events);

// Any bytes, of any alignment. Errors: FrameError. Unknown events within a frame are left out.
[[nodiscard]] Result<ClientMessage> decode_from_client(std::span<const std::byte> bytes);
[[nodiscard]] Result<NodeMessage> decode_from_node(std::span<const std::byte> bytes);

}  // namespace outlast::link
