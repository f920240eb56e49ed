// Small files that must be on disk whole or not at all: written beside their place, synced,
// renamed, the folder synced.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/result.hpp"
#include "storage/ledger_error.hpp"

namespace outlast::storage {

// Where a write stands; a test may end the process there.
enum class FileStep : std::uint8_t { written, synced, renamed, folder_synced };

// Error: io or disk_full; then the file is what it was, or (from `renamed` on) new.
Result<void> write_file_durably(const std::string& file, std::string_view bytes, unsigned mode,
                                const std::function<void(FileStep)>& reached = nullptr);
// Names in the folder are on disk.
Result<void> sync_folder(const std::string& folder);
// Error: io, also when it is larger.
Result<std::string> read_whole_file(const std::string& file, std::size_t bytes_max);

// "cannot DO FILE: No space left on device", by errno; disk_full where that is the reason.
Failure file_failure(const std::string& what, const std::string& file);

// The name that a file has until it is whole.
inline constexpr std::string_view unfinished_extension = ".tmp";

}  // namespace outlast::storage
