#include "apps/outlast-gpu-worker/best_student.hpp"

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpu/files/weight_files.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/model_folder.hpp"

namespace outlast::worker {
namespace {

namespace fs = std::filesystem;
using gpu::GpuError;

constexpr std::size_t figures_bytes_max = 256;
constexpr std::string_view best_prefix = "best-";

std::vector<fs::path> folders_of_best(const fs::path& checkpoints) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(checkpoints, error); !error && at != fs::directory_iterator(); at.increment(error)) {
    if (at->path().filename().string().starts_with(best_prefix)) found.push_back(at->path());
  }
  return found;
}

std::string text_of(double value) {
  char text[64];
  return {text, std::to_chars(std::begin(text), std::end(text), value).ptr};
}

}  // namespace

// Its figures are written last: a folder that has them is whole.
Result<void> save_best(const fs::path& checkpoints, gpu::Dtype dtype, const gpu::ParameterLayout& layout, const Best& best) {
  const fs::path place = checkpoints / (std::string(best_prefix) + std::to_string(best.step));
  std::error_code error;
  fs::remove_all(place, error);
  fs::create_directories(place, error);
  if (error) return fail(GpuError::io, "cannot make " + place.string() + ": " + error.message());
  if (Result<void> done = gpu::save_parameters((place / "model.safetensors").string(), dtype, layout, best.weights); !done) return done;
  if (Result<void> done = gpu::write_whole_file((place / "figures.txt").string(), text_of(best.exact) + " " + text_of(best.loss) + "\n"); !done) return done;
  for (const fs::path& other : folders_of_best(checkpoints)) {
    if (other != place) fs::remove_all(other, error);
  }
  return {};
}

Result<Best> load_best(const fs::path& checkpoints, const gpu::ParameterLayout& layout) {
  Best best;
  fs::path found;
  for (const fs::path& place : folders_of_best(checkpoints)) {
    const std::string digits = place.filename().string().substr(best_prefix.size());
    std::uint64_t step = 0;
    if (std::from_chars(digits.data(), digits.data() + digits.size(), step).ec != std::errc() || step < best.step || !fs::exists(place / "figures.txt")) continue;
    best.step = step;
    found = place;
  }
  if (found.empty()) return best;
  const auto figures = gpu::read_whole_file((found / "figures.txt").string(), figures_bytes_max);
  if (!figures) return fail(figures.error());
  const char* const end = figures->data() + figures->size();
  const auto exact = std::from_chars(figures->data(), end, best.exact);
  if (exact.ec != std::errc() || exact.ptr == end || std::from_chars(exact.ptr + 1, end, best.loss).ec != std::errc())
    return fail(GpuError::malformed, (found / "figures.txt").string() + " is not a best student's");
  const auto files = gpu::WeightFiles::open(found.string());
  if (!files) return fail(files.error());
  auto weights = gpu::load_weights(layout, **files);
  if (!weights) return fail(std::move(weights.error()));
  best.weights = std::move(*weights);
  return best;
}

void forget_best(const fs::path& checkpoints) {
  std::error_code error;
  for (const fs::path& place : folders_of_best(checkpoints)) fs::remove_all(place, error);
}

}  // namespace outlast::worker
