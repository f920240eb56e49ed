// Which files a worker may use for others.
#pragma once

#include <string>

#include "core/result.hpp"
#include "proto/work_codec.hpp"

namespace outlast::worker {

// That every path of the work is within `folder`, also behind symbolic links. Errors: GpuError (invalid).
Result<void> check_paths(const work::Start& work, const std::string& folder);

}  // namespace outlast::worker
