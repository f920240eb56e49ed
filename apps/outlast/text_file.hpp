// Files that a command sends or reads whole.
#pragma once

#include <cstddef>
#include <string>

#include "core/result.hpp"

namespace outlast::apps {

// The text of a file, at most `bytes_max` long; "-" is stdin. Errors: not_found, failed.
Result<std::string> read_text_file(const std::string& path, std::size_t bytes_max);

}  // namespace outlast::apps
