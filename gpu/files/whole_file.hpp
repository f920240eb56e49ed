// Small files as a whole: configurations, tokenizers, indices. Weights are mapped instead (safetensors.hpp).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gpu {

// Errors: io (with the path), too_large.
Result<std::string> read_whole_file(const std::string& path, std::size_t bytes_max);

// The file is there whole or not at all, also after a power failure: written beside it, synced, and renamed. Errors: io.
Result<void> write_whole_file(const std::string& path, std::string_view bytes);

// Makes a rename or a new file of the folder durable. Errors: io.
Result<void> sync_folder(const std::string& folder);

}  // namespace outlast::gpu
