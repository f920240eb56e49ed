// The node's own secrets: files of mode 0600 in its data folder, made on the first start.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "core/result.hpp"

namespace outlast::apps {

// Append-only.
enum class SecretError : std::uint16_t { unreadable = 1, unwritable = 2, too_open = 3, malformed = 4 };

// The hexadecimal text of `bytes` random bytes; made and synced when the file is absent. Refuses a file that others
// may read or that holds something else.
Result<std::string> load_or_make_secret(const std::filesystem::path& file, std::size_t bytes);

// Replaces a file as a whole: written beside it, synced, renamed.
Result<void> write_file_atomically(const std::filesystem::path& file, std::string_view text, unsigned mode);

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::SecretError> = "secrets";
}  // namespace outlast
