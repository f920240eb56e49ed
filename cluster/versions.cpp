#include "cluster/versions.hpp"

#include <algorithm>
#include <charconv>
#include <limits>

namespace outlast::cluster {
namespace {

std::string text_of(const NodeVersions& node) {
  if (!node.range) return node.node + " (away)";
  return node.node + " (" + std::to_string(node.range->min) + " to " + std::to_string(node.range->max) + ")";
}

// "a (1 to 2), b (away)" of the nodes that do not understand `version`.
std::string without(const std::vector<NodeVersions>& nodes, std::uint16_t version) {
  std::string text;
  for (const NodeVersions& node : nodes) {
    if (node.range && node.range->min <= version && version <= node.range->max) continue;
    if (!text.empty()) text += ", ";
    text += text_of(node);
  }
  return text;
}

}  // namespace

std::vector<NodeVersions> versions_of(const std::vector<Member>& members, const std::vector<Presence>& presences) {
  std::vector<NodeVersions> nodes;
  for (const Member& member : members) {
    if (member.state == NodeState::removed || member.state == NodeState::revoked) continue;
    const auto presence = std::find_if(presences.begin(), presences.end(),
                                       [&member](const Presence& candidate) { return candidate.node == member.name; });
    std::optional<VersionRange> range;
    if (presence != presences.end()) range = VersionRange{presence->version_min, presence->version_max};
    nodes.push_back({member.name, range});
  }
  return nodes;
}

Result<std::uint16_t> parse_log_format(std::string_view setting) {
  if (setting.empty()) return log_format_first;
  std::uint16_t version = 0;
  const auto [end, error] = std::from_chars(setting.data(), setting.data() + setting.size(), version);
  if (error != std::errc() || end != setting.data() + setting.size() || version < log_format_first) {
    return fail(AgreementError::refused, "the setting " + std::string(log_format_setting) +
                                             " is a version, 1 or higher, and not '" + std::string(setting) + "'");
  }
  return version;
}

Result<std::uint16_t> highest_common(const std::vector<NodeVersions>& nodes) {
  if (nodes.empty()) return fail(AgreementError::refused, "no node is enrolled");
  std::uint16_t lowest_max = std::numeric_limits<std::uint16_t>::max();
  std::uint16_t highest_min = 0;
  std::string away;
  for (const NodeVersions& node : nodes) {
    if (!node.range) {
      away += (away.empty() ? "" : ", ") + node.node;
      continue;
    }
    lowest_max = std::min(lowest_max, node.range->max);
    highest_min = std::max(highest_min, node.range->min);
  }
  if (!away.empty()) {
    return fail(AgreementError::refused,
                "what these nodes understand is not known while they are away: " + away + "; start or remove them");
  }
  if (lowest_max < highest_min) {
    return fail(AgreementError::refused, "no version of the log's format is understood by all nodes; not " +
                                             std::to_string(highest_min) + ": " + without(nodes, highest_min));
  }
  return lowest_max;
}

Result<void> may_pin(std::uint16_t pinned, std::uint16_t wanted, const std::vector<NodeVersions>& nodes) {
  if (wanted < pinned) {
    return fail(AgreementError::refused,
                "the log's format is " + std::to_string(pinned) + " and cannot go back to " + std::to_string(wanted) +
                    ": entries of the new format may stand in the logs");
  }
  if (wanted == pinned) return {};
  const std::string missing = without(nodes, wanted);
  if (!missing.empty()) {
    return fail(AgreementError::refused, "the log's format cannot rise to " + std::to_string(wanted) +
                                             " before every node understands it; these do not: " + missing);
  }
  return {};
}

std::optional<std::uint16_t> rise_of(std::uint16_t pinned, const std::vector<NodeVersions>& nodes) {
  const auto highest = highest_common(nodes);
  if (!highest || *highest <= pinned) return std::nullopt;
  return *highest;
}

Result<void> may_run(VersionRange own, std::uint16_t pinned) {
  const std::string range = std::to_string(own.min) + " to " + std::to_string(own.max);
  if (pinned > own.max) {
    return fail(AgreementError::refused, "the cluster writes format " + std::to_string(pinned) +
                                             " of the log, and this build understands " + range +
                                             ": a cluster cannot be downgraded; install a newer build");
  }
  if (pinned < own.min) {
    return fail(AgreementError::refused, "the cluster still writes format " + std::to_string(pinned) +
                                             " of the log, and this build understands " + range +
                                             ": upgrade every node to a version in between first");
  }
  return {};
}

}  // namespace outlast::cluster
