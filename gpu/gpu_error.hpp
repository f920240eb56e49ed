#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/result.hpp"

namespace outlast::gpu {

// Append-only: it crosses the wire.
enum class GpuError : std::uint16_t {
  io = 1,             // a file cannot be read or written
  malformed = 2,      // a file says what cannot be
  unsupported = 3,    // well-formed, and of a kind that this build does not run
  too_large = 4,      // over a limit, or does not fit into the device's memory
  invalid = 5,        // a request that cannot be carried out as it stands
  device = 6,         // the device or a library of it failed
  peer_lost = 7,      // another rank died or stalled
  cancelled = 8,
  overloaded = 9,     // a queue is full: later it may not be
};

}  // namespace outlast::gpu

namespace outlast {
template <>
inline constexpr std::string_view error_module<gpu::GpuError> = "gpu";

namespace gpu {
inline Failure malformed(std::string message) { return fail(GpuError::malformed, std::move(message)); }
}  // namespace gpu
}  // namespace outlast
