#include "apps/outlast-gpu-worker/allowed_paths.hpp"

#include <algorithm>
#include <filesystem>
#include <vector>

#include "gpu/gpu_error.hpp"

namespace outlast::worker {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> paths_of(const work::Start& work) {
  if (const auto* const train = std::get_if<work::Train>(&work)) return {train->model, train->tokenizer, train->data, train->evaluation, train->output, train->distillation.teacher};
  if (const auto* const evaluate = std::get_if<work::Evaluate>(&work)) return {evaluate->model, evaluate->data};
  if (const auto* const generate = std::get_if<work::Generate>(&work)) return {generate->model};
  return {};
}

bool within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

Failure outside(const std::string& path, const fs::path& allowed) {
  return fail(gpu::GpuError::invalid, path + " is not within " + allowed.string() + ", which is all that this worker may use");
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
      return outside(path, allowed);
    // A folder of links would lead out of it: files of a model are read by their names.
    for (fs::directory_iterator at(real, error); !error && at != fs::directory_iterator(); at.increment(error)) {
      std::error_code broken;
      if (!at->is_symlink(broken)) continue;
      const fs::path target = at->path().parent_path() / fs::read_symlink(at->path(), broken);  // also where there is nothing yet
      if (broken || !within(fs::weakly_canonical(target, broken), allowed) || broken) return outside(at->path().string(), allowed);
    }
    error.clear();
  }
  return {};
}

}  // namespace outlast::worker
