// Numbers on the command line: read whole, within bounds that a person can read, and never NaN or beyond what the type holds.
#pragma once

#include <cstdint>

#include <CLI/CLI.hpp>

namespace outlast::apps {

// "123"; what is refused is told with the bounds.
CLI::Validator whole_number(std::uint64_t least, std::uint64_t most);
// "0.5", "1e-3".
CLI::Validator real_number(double least, double most);
CLI::Validator real_number_above(double bound, double most);

}  // namespace outlast::apps
