// What a ledger has on record of a cluster's nodes, join tokens and settings, for those who read it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/cluster_member.hpp"

namespace outlast {

struct MemberRecord {
  NodeEnrolled enrolled;  // its latest enrolment
  std::int64_t enrolled_ms = 0;
  NodeState state = NodeState::active;
  std::int64_t changed_ms = 0;  // when it came to this state, 0 for the one that it was enrolled with; who did it, why
  std::string changed_by;
  std::string reason;

  // Whether links with it are allowed.
  [[nodiscard]] bool takes_part() const { return state == NodeState::active || state == NodeState::draining; }
  bool operator==(const MemberRecord&) const = default;
};

struct JoinTokenRecord {
  JoinTokenMade token;
  std::int64_t made_ms = 0;
  bool operator==(const JoinTokenRecord&) const = default;
};

struct MemberRecords {
  std::vector<MemberRecord> nodes;      // by name
  std::vector<JoinTokenRecord> tokens;  // unused; some may have expired
  std::map<std::string, std::string> settings;

  [[nodiscard]] const MemberRecord* find(std::string_view name) const {
    const auto at = std::find_if(nodes.begin(), nodes.end(),
                                 [name](const MemberRecord& node) { return node.enrolled.name == name; });
    return at == nodes.end() ? nullptr : &*at;
  }
};

using MemberOperation = std::variant<NodeEnrolled, NodeChanged, JoinTokenMade, SettingSet>;

}  // namespace outlast
