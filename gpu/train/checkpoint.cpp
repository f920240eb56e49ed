// Trainer's checkpoints: written beside their place, synced, and renamed.
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
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

Failure cannot(const std::string& what, const fs::path& path, const std::error_code& error) {
  return fail(GpuError::io, "cannot " + what + " " + path.string() + ": " + error.message());
}

// A folder's entries; none where it does not exist.
Result<std::vector<fs::path>> entries_of(const std::string& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator at(folder, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  while (!error && at != fs::directory_iterator()) {
    found.push_back(at->path());
    at.increment(error);
  }
  if (error) return cannot("read", folder, error);
  return found;
}

// The whole checkpoints of a folder, by step.
Result<std::map<std::uint64_t, fs::path>> checkpoints_in(const std::string& folder) {
  const auto entries = entries_of(folder);
  if (!entries) return fail(entries.error());
  std::map<std::uint64_t, fs::path> found;
  for (const fs::path& entry : *entries) {
    const std::string name = entry.filename().string();
    if (!name.starts_with(prefix)) continue;
    std::uint64_t step = 0;
    const auto [end, wrong] = std::from_chars(name.data() + prefix.size(), name.data() + name.size(), step);
    if (wrong == std::errc() && end == name.data() + name.size()) found[step] = entry;
  }
  return found;
}

// `made` takes the place of `old`, in one step.
Result<void> put_in_place(const fs::path& made, const fs::path& old) {
  const bool exchanged = ::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, old.c_str(), fs::exists(old) ? RENAME_EXCHANGE : 0) == 0;
  if (!exchanged) return cannot("place", old, std::error_code(errno, std::generic_category()));
  std::error_code ignored;
  fs::remove_all(made, ignored);  // what was there before
  return {};
}

TensorToWrite tensor_of(Device& device, std::string name, const Array& array) {
  const auto fill = [&device, array](std::size_t first, std::span<std::byte> into) {
    return device.download(into, array.part(first / sizeof(float), into.size() / sizeof(float)));
  };
  return {std::move(name), Dtype::f32, {array.count}, fill};
}

}  // namespace

Result<void> Trainer::save(const std::string& folder) {
  const fs::path place = fs::path(folder) / name_of_step(step_);
  const fs::path beside = place.string() + std::string(unfinished);
  std::error_code error;
  fs::remove_all(beside, error);
  fs::create_directories(beside, error);
  if (error) return cannot("make", beside, error);
  if (Result<void> synced = sync_folder(fs::absolute(folder).lexically_normal().parent_path().string()); !synced) return synced;
  const std::vector<TensorToWrite> tensors{tensor_of(device_, "weights", weights_->array()), tensor_of(device_, "first_moment", first_->array()),
                                           tensor_of(device_, "second_moment", second_->array())};
  if (Result<void> written = write_safetensors((beside / "state.safetensors").string(), tensors, {}); !written) return written;
  std::string text;
  JsonWriter json(text);
  json.begin_object().key("step").number(step_).key("data").number(data_hash_).key("run").raw(options_.fingerprint());
  json.key("model").raw(model_config_json(config_)).end_object();
  if (Result<void> written = write_whole_file((beside / "place.json").string(), text); !written) return written;
  if (Result<void> placed = put_in_place(beside, place); !placed) return placed;
  return sync_folder(folder);
}

Result<bool> Trainer::resume(const std::string& folder) {
  const auto found = checkpoints_in(folder);
  if (!found) return fail(found.error());
  if (found->empty()) return false;
  const auto& [step, place] = *found->rbegin();
  const auto text = read_whole_file((place / "place.json").string(), place_bytes_max);
  if (!text) return fail(text.error());
  simdjson::dom::parser parser;
  simdjson::dom::element root;
  std::uint64_t stored_step = 0;
  std::uint64_t data = 0;
  simdjson::dom::element run;
  simdjson::dom::element model;
  if (parser.parse(text->data(), text->size()).get(root) != simdjson::SUCCESS || root["step"].get(stored_step) != simdjson::SUCCESS ||
      root["data"].get(data) != simdjson::SUCCESS || root["run"].get(run) != simdjson::SUCCESS || root["model"].get(model) != simdjson::SUCCESS ||
      stored_step != step) {
    return fail(GpuError::malformed, (place / "place.json").string() + " is not a checkpoint's");
  }
  const auto same = [](const simdjson::dom::element& stored, const std::string& own) {
    simdjson::dom::parser other;
    simdjson::dom::element parsed;
    return other.parse(own).get(parsed) == simdjson::SUCCESS && simdjson::minify(parsed) == simdjson::minify(stored);
  };
  if (!same(model, model_config_json(config_))) return fail(GpuError::invalid, place.string() + " is of another model; choose another folder");
  if (data != data_hash_ || !same(run, options_.fingerprint()))
    return fail(GpuError::invalid, place.string() + " is of a run with other settings or data; give the same, or choose another folder");
  const auto file = SafetensorsFile::open((place / "state.safetensors").string());
  if (!file) return fail(file.error());
  std::vector<std::byte> piece;
  for (const auto& [name, memory] : {std::pair{"weights", &weights_}, std::pair{"first_moment", &first_}, std::pair{"second_moment", &second_}}) {
    const TensorInfo* const tensor = (*file)->find(name);
    if (tensor == nullptr || tensor->dtype != Dtype::f32 || tensor->count() != layout_.count())
      return fail(GpuError::malformed, place.string() + ": '" + name + "' is missing or of another size");
    for (std::uint64_t first = 0; first < tensor->bytes(); first += piece.size()) {
      piece.resize(std::min<std::uint64_t>(tensor->bytes() - first, tensor_piece_bytes));
      if (Result<void> read = (*file)->read(*tensor, piece, first); !read) return fail(std::move(read.error()));
      device_.upload((*memory)->array().part(first / sizeof(float), piece.size() / sizeof(float)), piece);
    }
  }
  if (working_) device_.copy(working_->array(), weights_->array());
  step_ = stored_step;
  return true;
}

Result<void> prune_checkpoints(const std::string& folder, std::size_t keep) {
  const auto entries = entries_of(folder);
  if (!entries) return fail(entries.error());
  std::vector<fs::path> doomed;
  for (const fs::path& entry : *entries) {
    const std::string name = entry.filename().string();
    if (name.starts_with(prefix) && name.ends_with(unfinished)) doomed.push_back(entry);
  }
  auto found = checkpoints_in(folder);
  if (!found) return fail(found.error());
  while (found->size() > keep) {
    doomed.push_back(found->begin()->second);
    found->erase(found->begin());
  }
  std::error_code error;
  for (const fs::path& one : doomed) {
    fs::remove_all(one, error);
    if (error) return cannot("remove", one, error);
  }
  return {};
}

}  // namespace outlast::gpu
