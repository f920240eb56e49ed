// The best student of a run so far, in a folder of its own beside the checkpoints, so that a run that goes on knows it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <vector>

#include "core/result.hpp"
#include "gpu/files/dtype.hpp"
#include "gpu/model/parameters.hpp"

namespace outlast::worker {

struct Best {
  std::uint64_t step = 0;
  double exact = -1;
  double loss = std::numeric_limits<double>::infinity();
  std::vector<float> weights;  // of what is learned; empty: there is none yet
};

// In place of any that is there. Errors: io.
Result<void> save_best(const std::filesystem::path& checkpoints, gpu::Dtype dtype, const gpu::ParameterLayout& layout, const Best& best);
// The newest that is whole; none where there is none. Errors: io, malformed.
Result<Best> load_best(const std::filesystem::path& checkpoints, const gpu::ParameterLayout& layout);
// Of a run that was given up: the next one does not know it.
void forget_best(const std::filesystem::path& checkpoints);

}  // namespace outlast::worker
