// Trainer's checkpoints: written beside their place, synced, and renamed.
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>

#include <simdjson.h>

#include "core/json_writer.hpp"
#include "gpu/files/safetensors.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/train/trainer.hpp"

namespace outlast::gpu {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view prefix = "step-";
constexpr std::string_view unfinished = ".unfinished";
constexpr std::size_t place_bytes_max = 64U << 10;

std::string name_of_step(std::uint64_t step) {
  std::string digits = std::to_string(step);
  return std::string(prefix) + std::string(digits.size() < 8 ? 8 - digits.size() : 0, '0') + digits;
}

// The whole checkpoints of a folder, by step.
std::map<std::uint64_t, fs::path> checkpoints_in(const std::string& folder) {
  std::map<std::uint64_t, fs::path> found;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix)) continue;
    std::uint64_t step = 0;
    const auto [end, wrong] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
    if (wrong == std::errc() && end == name.data() + name.size()) found[step] = entry.path();
  }
  return found;
}

TensorToWrite tensor_of(Device& device, std::string name, const Array& array) {
  return {std::move(name), Dtype::f32, {array.count}, [&device, array](std::span<std::byte> into) { return device.download(into, array); }};
}

}  // namespace

Result<void> Trainer::save(const std::string& folder) {
  const fs::path place = fs::path(folder) / name_of_step(step_);
  const fs::path beside = place.string() + std::string(unfinished);
  std::error_code error;
  fs::remove_all(beside, error);
  fs::create_directories(beside, error);
  if (error) return fail(GpuError::io, "cannot make " + beside.string() + ": " + error.message());
  const std::vector<TensorToWrite> tensors{tensor_of(device_, "weights", weights_->array()), tensor_of(device_, "first_moment", first_->array()),
                                           tensor_of(device_, "second_moment", second_->array())};
  if (Result<void> written = write_safetensors((beside / "state.safetensors").string(), tensors, {}); !written) return written;
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("step").number(step_).key("samples").number(std::uint64_t{samples_.size()}).key("run").raw(options_.fingerprint());
  json.key("model").raw(model_config_json(config_)).end_object();
  if (Result<void> written = write_whole_file((beside / "place.json").string(), text); !written) return written;
  fs::remove_all(place, error);  // of the same step: this one is as good
  fs::rename(beside, place, error);
  if (error) return fail(GpuError::io, "cannot place " + place.string() + ": " + error.message());
  return sync_folder(folder);
}

Result<bool> Trainer::resume(const std::string& folder) {
  const auto found = checkpoints_in(folder);
  if (found.empty()) return false;
  const auto& [step, place] = *found.rbegin();
  const auto text = read_whole_file((place / "place.json").string(), place_bytes_max);
  if (!text) return fail(text.error());
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::uint64_t stored_step = 0;
  std::uint64_t samples = 0;
  simdjson::dom::element run;
  simdjson::dom::element model;
  if (parser.parse(text->data(), text->size()).get(root) != simdjson::SUCCESS || root["step"].get(stored_step) != simdjson::SUCCESS ||
      root["samples"].get(samples) != simdjson::SUCCESS || root["run"].get(run) != simdjson::SUCCESS || root["model"].get(model) != simdjson::SUCCESS ||
      stored_step != step) {
    return fail(GpuError::malformed, (place / "place.json").string() + " is not a checkpoint's");
  }
  const auto same = [](const simdjson::dom::element& stored, const std::string& own) {
    simdjson::dom::parser other;
    simdjson::dom::element parsed;
    return other.parse(own).get(parsed) == simdjson::SUCCESS && simdjson::minify(parsed) == simdjson::minify(stored);
  };
  if (!same(model, model_config_json(config_))) return fail(GpuError::invalid, place.string() + " is of another model; choose another folder");
  if (samples != samples_.size() || !same(run, options_.fingerprint()))
    return fail(GpuError::invalid, place.string() + " is of a run with other settings or data; give the same, or choose another folder");
  const auto file = SafetensorsFile::open((place / "state.safetensors").string());
  if (!file) return fail(file.error());
  std::vector<float> numbers(layout_.count());
  for (const auto& [name, memory] : {std::pair{"weights", &weights_}, std::pair{"first_moment", &first_}, std::pair{"second_moment", &second_}}) {
    const TensorInfo* const tensor = (*file)->find(name);
    if (tensor == nullptr || tensor->dtype != Dtype::f32 || tensor->count() != numbers.size())
      return fail(GpuError::malformed, place.string() + ": '" + name + "' is missing or of another size");
    if (Result<void> read = (*file)->read(*tensor, std::as_writable_bytes(std::span(numbers))); !read) return fail(std::move(read.error()));
    device_.upload((*memory)->array(), std::as_bytes(std::span(numbers)));
  }
  if (working_) device_.copy(working_->array(), weights_->array());
  step_ = stored_step;
  return true;
}

Result<void> prune_checkpoints(const std::string& folder, std::size_t keep) {
  std::error_code error;
  std::vector<fs::path> doomed;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && name.ends_with(unfinished)) doomed.push_back(entry.path());
  }
  auto found = checkpoints_in(folder);
  while (found.size() > keep) {
    doomed.push_back(found.begin()->second);
    found.erase(found.begin());
  }
  for (const fs::path& one : doomed) {
    fs::remove_all(one, error);
    if (error) return fail(GpuError::io, "cannot remove " + one.string() + ": " + error.message());
  }
  return {};
}

}  // namespace outlast::gpu
