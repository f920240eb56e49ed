// What can go wrong when a node joins a cluster.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.hpp"

namespace outlast::cluster {

// Append-only.
enum class JoinError : std::uint16_t {
  malformed_token = 1,  // not the text of a join token
  unreachable = 2,      // nobody answered in time
  refused = 3,          // the message says why
  bad_answer = 4,       // the node said what makes no sense
};

}  // namespace outlast::cluster

namespace outlast {
template <>
inline constexpr std::string_view error_module<cluster::JoinError> = "join";
}  // namespace outlast
