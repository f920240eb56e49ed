// Times as the cluster counts them: nanoseconds of a Clock.
#pragma once

#include <cstdint>
#include <limits>

namespace outlast::cluster {

inline constexpr std::int64_t ns_per_ms = 1'000'000;
inline constexpr std::int64_t ns_per_s = 1'000'000'000;
inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

inline std::int64_t ns_of(std::uint32_t ms) { return ms * ns_per_ms; }

}  // namespace outlast::cluster
