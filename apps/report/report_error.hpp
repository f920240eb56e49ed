// What can be wrong with what a report is asked for.
#pragma once

#include <cstdint>

#include "core/result.hpp"

namespace outlast::apps {

// Append-only.
enum class ReportError : std::uint16_t {
  malformed = 1,  // a file or a parameter; the message names the place
  too_large = 2,
  not_found = 3,
  stopped = 4,  // the node stops
  busy = 5,     // too many reports at once
};

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::ReportError> = "report";
}  // namespace outlast
