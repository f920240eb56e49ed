#include "gpu/files/weight_files.hpp"

#include <filesystem>
#include <set>

#include <simdjson.h>

#include "core/check.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
namespace fs = std::filesystem;
using simdjson::SUCCESS;

constexpr std::size_t index_bytes_max = 64U << 20;
constexpr std::string_view one_file = "model.safetensors";
constexpr std::string_view index_file = "model.safetensors.index.json";

// A name within the folder, and nothing else.
bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\\') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

template <class Stored, class Convert>
void convert(std::span<const std::byte> bytes, std::span<float> into, const Convert& to_float) {
  const auto* const stored = reinterpret_cast<const Stored*>(bytes.data());
  for (std::size_t i = 0; i < into.size(); ++i) into[i] = to_float(stored[i]);
}

}  // namespace

Result<std::map<std::string, std::string>> parse_weight_index(std::string_view json) {
  dom::parser parser;
  dom::element root;
  const auto parsed = parser.parse(json.data(), json.size()).get(root);
  if (parsed != SUCCESS) return malformed(std::string(index_file) + " is not JSON: " + simdjson::error_message(parsed));
  dom::object map;
  if (root["weight_map"].get(map) != SUCCESS) return malformed(std::string(index_file) + " has no object 'weight_map'");
  std::map<std::string, std::string> places;
  std::set<std::string_view> files;
  for (const auto& [name, value] : map) {
    std::string_view file;
    if (value.get(file) != SUCCESS || !is_plain_name(file))
      return malformed(std::string(index_file) + ": the file of tensor '" + std::string(name) + "' is not the name of a file in this folder");
    files.insert(file);
    if (files.size() > shards_max) return malformed(std::string(index_file) + " names more than " + std::to_string(shards_max) + " files");
    if (!places.emplace(name, file).second) return malformed(std::string(index_file) + ": tensor '" + std::string(name) + "' stands there twice");
  }
  if (places.empty()) return malformed(std::string(index_file) + " lists no tensors");
  return places;
}

Result<std::unique_ptr<WeightFiles>> WeightFiles::open(const std::string& folder) {
  auto weights = std::make_unique<WeightFiles>();
  weights->folder_ = folder;
  const std::string index = folder + "/" + std::string(index_file);
  std::size_t tensors = 0;
  const auto open_one = [&weights, &folder, &tensors](const std::string& name) -> Result<const SafetensorsFile*> {
    auto file = SafetensorsFile::open(folder + "/" + name);
    if (!file) return fail(std::move(file.error()));
    weights->files_.push_back(std::move(*file));
    tensors += weights->files_.back()->tensors().size();
    if (tensors > tensors_max) return malformed(folder + " has more than " + std::to_string(tensors_max) + " tensors in its files");
    return weights->files_.back().get();
  };
  std::error_code missing;
  if (!fs::exists(index, missing)) {
    const auto file = open_one(std::string(one_file));
    if (!file) return fail(file.error());
    for (const TensorInfo& tensor : (*file)->tensors()) weights->places_.emplace(tensor.name, Place{*file, &tensor});
    return weights;
  }
  const auto json = read_whole_file(index, index_bytes_max);
  if (!json) return fail(json.error());
  const auto places = parse_weight_index(*json);
  if (!places) return fail(places.error());
  std::map<std::string, const SafetensorsFile*> opened;
  for (const auto& [name, file_name] : *places) {
    auto at = opened.find(file_name);
    if (at == opened.end()) {
      const auto file = open_one(file_name);
      if (!file) return fail(file.error());
      at = opened.emplace(file_name, *file).first;
    }
    const TensorInfo* const tensor = at->second->find(name);
    if (tensor == nullptr) return malformed(index + ": tensor '" + name + "' is not in " + file_name);
    weights->places_.emplace(name, Place{at->second, tensor});
  }
  return weights;
}

WeightFiles::Place WeightFiles::find(std::string_view name) const {
  const auto at = places_.find(name);
  return at == places_.end() ? Place{} : at->second;
}

std::vector<std::string> WeightFiles::names() const {
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  return names;
}

Result<void> WeightFiles::check_tensor(std::string_view name, std::span<const std::uint64_t> shape) const {
  const TensorInfo* const tensor = find(name).tensor;
  if (tensor == nullptr) return malformed(folder_ + ": the model needs a tensor '" + std::string(name) + "', and there is none");
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
    return malformed(folder_ + ": tensor '" + std::string(name) + "' has the shape " + shape_text(tensor->shape) + "; by config.json it is " + shape_text(shape));
  return {};
}

Result<void> WeightFiles::read(std::string_view name, std::span<const std::uint64_t> shape, std::span<float> into) const {
  if (Result<void> good = check_tensor(name, shape); !good) return good;
  const Place place = find(name);
  const TensorInfo& tensor = *place.tensor;
  check(into.size() == tensor.count(), "the memory for a tensor has its size");
  if (tensor.dtype == Dtype::f32) return place.file->read(tensor, std::as_writable_bytes(into));
  if (tensor.dtype != Dtype::bf16 && tensor.dtype != Dtype::f16 && tensor.dtype != Dtype::f64)
    return fail(GpuError::unsupported, folder_ + ": tensor '" + std::string(name) + "' has the dtype " + std::string(name_of(tensor.dtype)) + "; weights are floats");
  std::vector<std::byte> bytes(tensor.bytes());
  if (Result<void> done = place.file->read(tensor, bytes); !done) return done;
  if (tensor.dtype == Dtype::bf16) convert<std::uint16_t>(bytes, into, from_bf16);
  else if (tensor.dtype == Dtype::f16) convert<std::uint16_t>(bytes, into, from_f16);
  else convert<double>(bytes, into, [](double value) { return static_cast<float>(value); });
  return {};
}

}  // namespace outlast::gpu
