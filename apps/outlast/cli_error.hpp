// How a command of `outlast` ends when it does not end well.
#pragma once

#include <cstdint>

#include "core/result.hpp"

namespace outlast::apps {

// The code is the exit code of the process, and scripts rely on it: append-only.
enum class CliError : std::uint16_t {
  failed = 1,       // refused, or went wrong
  usage = 2,        // the command line is wrong
  unreachable = 3,  // no node answers
  not_found = 4,    // the node does not know what was named
  damaged = 5,      // the ledger did not verify
  differs = 6,      // what was compared does not agree
  interrupted = 7,  // by Ctrl-C or a signal; what was done until then is saved
};

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::CliError> = "cli";
}  // namespace outlast
