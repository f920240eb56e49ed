// Member: what elections and versions need to know of a node that is enrolled; the control shard's node table has it.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "core/cluster_member.hpp"

namespace outlast::cluster {

inline constexpr std::string_view ledger_role = "ledger";

struct Member {
  std::string name;
  NodeState state = NodeState::active;
  std::vector<std::string> roles;
  bool operator==(const Member&) const = default;
};

inline bool has_role(const std::vector<std::string>& roles, std::string_view role) {
  return std::find(roles.begin(), roles.end(), role) != roles.end();
}

}  // namespace outlast::cluster
