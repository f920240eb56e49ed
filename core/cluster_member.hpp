// What a cluster knows of its nodes, as plain values: who may take part, and what all go by. The control log's entries
// are made of these.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/crypto.hpp"
#include "core/id.hpp"

namespace outlast {

// Append-only.
enum class NodeState : std::uint8_t {
  active = 0,
  draining = 1,  // hands its shards over, and asks for no callers
  removed = 2,   // may come back by another join token
  revoked = 3,   // its key is refused for ever
};
inline constexpr std::string_view node_state_names[] = {"active", "draining", "removed", "revoked"};
inline std::string_view name_of(NodeState state) { return node_state_names[static_cast<std::size_t>(state)]; }

// A node may take part, or has another address or other roles now. `by` says who did it, here and below.
struct NodeEnrolled {
  std::string name;
  std::string public_key;  // CURVE, Z85
  std::string endpoint;    // where other nodes reach it: "tcp://HOST:PORT"
  std::vector<std::string> roles;
  std::string token;  // the join token's id, used up by this; empty for the founder and for changes
  std::string by;
  // Its latest process, which holds slices of budgets: when the node is gone, somebody has to end it. Nil: none yet.
  Incarnation incarnation{};
  bool operator==(const NodeEnrolled&) const = default;
};

struct NodeChanged {
  std::string name;
  NodeState state = NodeState::active;
  std::string by;
  std::string reason;
  bool operator==(const NodeChanged&) const = default;
};

// Lets one node in, once.
struct JoinTokenMade {
  std::string id;
  Digest hash{};  // SHA-256 of the secret part
  std::int64_t expires_ms = 0;
  std::string by;
  bool operator==(const JoinTokenMade&) const = default;
};

// A value that all nodes go by; empty: removed.
struct SettingSet {
  std::string name;
  std::string value;
  std::string by;
  bool operator==(const SettingSet&) const = default;
};

}  // namespace outlast
