// What can go wrong when a link is set up.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/result.hpp"

namespace outlast::cluster {

// Append-only.
enum class LinkError : std::uint16_t {
  bad_address = 1,  // not tcp://HOST:PORT, or it cannot be bound
  bad_key = 2,      // not a CURVE key
  key_file = 3,     // cannot be read, written or trusted
  bad_options = 4,
  system = 5,       // the operating system refused a socket, a thread or a descriptor
  not_connected = 6,
  overloaded = 7,   // a queue is full
  timed_out = 8,
};

}  // namespace outlast::cluster

namespace outlast {
template <>
inline constexpr std::string_view error_module<cluster::LinkError> = "link";
}  // namespace outlast
