#include "apps/outlast-gpu-worker/allowed_paths.hpp"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "gpu/gpu_error.hpp"

namespace outlast::worker {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> paths_of(const work::Start& work) {
  if (const auto* const train = std::get_if<work::Train>(&work)) return {train->model, train->tokenizer, train->data, train->evaluation, train->output};
  if (const auto* const evaluate = std::get_if<work::Evaluate>(&work)) return {evaluate->model, evaluate->data};
  if (const auto* const generate = std::get_if<work::Generate>(&work)) return {generate->model};
  return {};
}

bool within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

Result<void> check_paths(const work::Start& work, const std::string& folder) {
  std::error_code error;
  const fs::path allowed = fs::canonical(folder, error);
  if (error) return fail(gpu::GpuError::io, folder + ": " + error.message());
  for (const std::string& path : paths_of(work)) {
    if (path.empty()) continue;
    const fs::path real = fs::weakly_canonical(path, error);
    if (error || !fs::path(path).is_absolute() || !within(real, allowed))
      return fail(gpu::GpuError::invalid, path + " is not within " + allowed.string() + ", which is all that this worker may use");
  }
  return {};
}

}  // namespace outlast::worker
