// Which version of the log's format may be written while nodes of several versions run. It is pinned by a setting in the
// control shard, rises only, and only to what every enrolled node can read: a node that is down counts, because it
// comes back and must read the log.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/agreement_error.hpp"
#include "cluster/coordination.hpp"
#include "cluster/member.hpp"
#include "core/result.hpp"

namespace outlast::cluster {

inline constexpr std::string_view log_format_setting = "log_format";
inline constexpr std::uint16_t log_format_first = 1;  // where the setting was never made
inline constexpr std::uint16_t log_format_allotments = 2;  // entries 25 and 26, and budgets and commitments that are away

struct VersionRange {
  std::uint16_t min = 0;
  std::uint16_t max = 0;
  bool operator==(const VersionRange&) const = default;
};

struct NodeVersions {
  std::string node;
  std::optional<VersionRange> range;  // none: the node is enrolled and away
};

// Of every node that is enrolled and neither removed nor revoked, in the order of `members`.
std::vector<NodeVersions> versions_of(const std::vector<Member>& members, const std::vector<Presence>& presences);

// The setting's value; empty: log_format_first. Errors: refused.
Result<std::uint16_t> parse_log_format(std::string_view setting);

// The highest version that all understand. Errors: refused, with the nodes that stand in the way (away, or without a
// version in common).
Result<std::uint16_t> highest_common(const std::vector<NodeVersions>& nodes);

// Whether the setting may go from `pinned` to `wanted`. Errors: refused, with what would be right: never down, and up
// only when every node understands it.
Result<void> may_pin(std::uint16_t pinned, std::uint16_t wanted, const std::vector<NodeVersions>& nodes);

// What to pin now, if more than `pinned`: for the owner of the control shard, after each change of the nodes.
std::optional<std::uint16_t> rise_of(std::uint16_t pinned, const std::vector<NodeVersions>& nodes);

// Whether a build that understands `own` may run where `pinned` holds. Errors: refused: a downgrade, or a build too new.
Result<void> may_run(VersionRange own, std::uint16_t pinned);

}  // namespace outlast::cluster
