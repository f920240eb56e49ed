#include "gpu/files/safetensors.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>

#include <simdjson.h>

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;

static_assert(std::endian::native == std::endian::little, "tensors are stored as little-endian numbers");

constexpr std::uint64_t length_bytes = 8;
constexpr std::uint64_t number_max = std::uint64_t{1} << 53;  // beyond that other readers round
constexpr std::size_t nesting_max = 4;
constexpr std::string_view lfs_pointer = "version https://git-lfs";

Failure failed(const std::string& what, const std::string& path) {
  return fail(GpuError::io, "cannot " + what + " " + path + ": " + std::strerror(errno));
}

std::string tensor_text(std::string_view name) { return "tensor '" + std::string(name) + "'"; }

// A number that every reader reads alike.
bool whole_number(const dom::element& value, std::uint64_t& number) {
  return value.get(number) == SUCCESS && number <= number_max;
}

Result<TensorInfo> parse_tensor(std::string_view name, const dom::element& value) {
  TensorInfo tensor;
  tensor.name = name;
  if (name.empty()) return malformed("a tensor has no name");
  if (name.find('\0') != std::string_view::npos) return malformed("the name of a tensor has a NUL in it");
  dom::object entry;
  if (value.get(entry) != SUCCESS) return malformed(tensor_text(name) + " is not an object");
  std::set<std::string_view> seen;
  std::string_view dtype;
  dom::array shape;
  dom::array offsets;
  for (const auto& [key, field] : entry) {
    if (!seen.insert(key).second) return malformed(tensor_text(name) + ": '" + std::string(key) + "' stands there twice");
    const bool good = key == "dtype"          ? field.get(dtype) == SUCCESS
                      : key == "shape"        ? field.get(shape) == SUCCESS
                      : key == "data_offsets" ? field.get(offsets) == SUCCESS
                                              : false;
    if (!good) return malformed(tensor_text(name) + ": '" + std::string(key) + "' is not what a tensor says of itself");
  }
  if (seen.size() != 3) return malformed(tensor_text(name) + " lacks dtype, shape or data_offsets");
  const auto known = parse_dtype(dtype);
  if (!known) return fail(GpuError::unsupported, tensor_text(name) + " has the dtype '" + std::string(dtype) + "', which this build does not know");
  tensor.dtype = *known;
  if (shape.size() > tensor_rank_max) return malformed(tensor_text(name) + " has " + std::to_string(shape.size()) + " dimensions; at most 8 are read");
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const dom::element dimension : shape) {
    std::uint64_t size = 0;
    if (!whole_number(dimension, size)) return malformed(tensor_text(name) + ": a dimension is not a number from 0 to 2^53");
    tensor.shape.push_back(size);
    if (__builtin_mul_overflow(bytes, size, &bytes)) return malformed(tensor_text(name) + " would have more than 2^64 bytes");
  }
  if (offsets.size() != 2 || !whole_number(offsets.at(0).value(), tensor.begin) || !whole_number(offsets.at(1).value(), tensor.end) ||
      tensor.begin > tensor.end) {
    return malformed(tensor_text(name) + ": data_offsets are not two numbers from 0 to 2^53 in order");
  }
  if (tensor.end - tensor.begin != bytes)
    return malformed(tensor_text(name) + " of shape " + shape_text(tensor.shape) + " and " + std::string(dtype) + " has " + std::to_string(bytes) +
                     " bytes, and data_offsets of " + std::to_string(tensor.end - tensor.begin));
  return tensor;
}

Result<void> parse_metadata(const dom::element& value, std::map<std::string, std::string>& metadata) {
  dom::object entries;
  if (value.get(entries) != SUCCESS) return malformed("__metadata__ is not an object");
  for (const auto& [key, field] : entries) {
    std::string_view text;
    if (field.get(text) != SUCCESS) return malformed("__metadata__: '" + std::string(key) + "' is not a text");
    if (!metadata.emplace(key, text).second) return malformed("__metadata__: '" + std::string(key) + "' stands there twice");
  }
  return {};
}

// One after the other from 0 to the buffer's end.
Result<void> check_places(const std::vector<TensorInfo>& tensors, std::uint64_t buffer_bytes) {
  std::uint64_t end = 0;
  const TensorInfo* before = nullptr;
  for (const TensorInfo& tensor : tensors) {
    if (tensor.begin < end) return malformed(tensor_text(tensor.name) + " overlaps " + tensor_text(before->name));
    if (tensor.begin > end) return malformed("there is a hole of " + std::to_string(tensor.begin - end) + " bytes before " + tensor_text(tensor.name));
    if (before != nullptr && before->bytes() == 0 && tensor.bytes() == 0)
      return malformed(tensor_text(tensor.name) + " and " + tensor_text(before->name) + " are both empty, at the same place");
    end = tensor.end;
    before = &tensor;
  }
  if (end > buffer_bytes)
    return malformed(tensor_text(before->name) + " ends " + std::to_string(end - buffer_bytes) + " bytes behind the end of the file; is it cut off?");
  if (end < buffer_bytes) return malformed(std::to_string(buffer_bytes - end) + " bytes at the end belong to no tensor");
  return {};
}

}  // namespace

std::uint64_t TensorInfo::count() const { return bytes() / size_of(dtype); }

std::string shape_text(std::span<const std::uint64_t> shape) {
  std::string text = "[";
  for (const std::uint64_t size : shape) text += (text.size() == 1 ? "" : ", ") + std::to_string(size);
  return text + "]";
}

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t buffer_bytes) {
  if (!json.starts_with('{')) return malformed("the header does not begin with '{'");
  const std::size_t last = json.find_last_not_of(' ');
  dom::parser parser(safetensors_header_bytes_max + 1);
  if (parser.allocate(json.size() + 1, nesting_max) != SUCCESS) return fail(GpuError::too_large, "no memory for the header");
  dom::element root;
  const auto parsed = parser.parse(json.data(), last + 1).get(root);
  if (parsed != SUCCESS) return malformed(std::string("the header is not JSON: ") + simdjson::error_message(parsed));
  SafetensorsHeader header;
  std::set<std::string_view> names;
  for (const auto& [name, value] : dom::object(root)) {
    if (!names.insert(name).second) return malformed(tensor_text(name) + " stands there twice");
    if (name == "__metadata__") {
      if (Result<void> read = parse_metadata(value, header.metadata); !read) return fail(std::move(read.error()));
      continue;
    }
    auto tensor = parse_tensor(name, value);
    if (!tensor) return fail(std::move(tensor.error()));
    if (header.tensors.size() == tensors_max) return malformed("there are more than " + std::to_string(tensors_max) + " tensors");
    header.tensors.push_back(std::move(*tensor));
  }
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  if (Result<void> placed = check_places(header.tensors, buffer_bytes); !placed) return fail(std::move(placed.error()));
  return header;
}

Result<std::unique_ptr<SafetensorsFile>> SafetensorsFile::open(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return failed("open", path);
  std::unique_ptr<SafetensorsFile> file(new SafetensorsFile(path, descriptor));
  if (Result<void> read = file->read_header(); !read) {
    Error error = std::move(read.error());
    error.message = path + ": " + error.message;
    return fail(std::move(error));
  }
  for (const TensorInfo& tensor : file->header_.tensors) file->by_name_.emplace(tensor.name, &tensor);
  return file;
}

SafetensorsFile::~SafetensorsFile() { ::close(descriptor_); }

Result<void> SafetensorsFile::read_header() {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) return fail(GpuError::io, std::strerror(errno));
  if (!S_ISREG(status.st_mode)) return fail(GpuError::io, "it is not a file");
  const auto size = static_cast<std::uint64_t>(status.st_size);
  std::array<char, lfs_pointer.size()> beginning{};
  const std::size_t looked = std::min<std::size_t>(size, beginning.size());
  if (Result<void> read = read_at(0, std::as_writable_bytes(std::span(beginning).first(looked))); !read) return read;
  if (std::string_view(beginning.data(), looked) == lfs_pointer)
    return malformed("it is a pointer of git-lfs, not the data; fetch it with `git lfs pull`");
  if (size < length_bytes) return malformed("it has " + std::to_string(size) + " bytes, which is too short for a safetensors file");
  std::uint64_t length = 0;
  std::memcpy(&length, beginning.data(), length_bytes);
  if (length > safetensors_header_bytes_max)
    return malformed("its header would have " + std::to_string(length) + " bytes, and at most " + std::to_string(safetensors_header_bytes_max) + " are allowed; is it a safetensors file?");
  if (length > size - length_bytes) return malformed("its header of " + std::to_string(length) + " bytes is longer than the file; is it cut off?");
  std::string json(length, '\0');
  if (Result<void> read = read_at(length_bytes, std::as_writable_bytes(std::span(json))); !read) return read;
  buffer_begin_ = length_bytes + length;
  auto header = parse_safetensors_header(json, size - buffer_begin_);
  if (!header) return fail(std::move(header.error()));
  header_ = std::move(*header);
  return {};
}

Result<void> SafetensorsFile::read_at(std::uint64_t place, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t got = ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(place));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(GpuError::io, std::strerror(errno));
    if (got == 0) return fail(GpuError::io, "it became shorter while it was read");
    place += static_cast<std::uint64_t>(got);
    into = into.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto at = by_name_.find(name);
  return at == by_name_.end() ? nullptr : at->second;
}

Result<void> SafetensorsFile::read(const TensorInfo& tensor, std::span<std::byte> into, std::uint64_t first) const {
  check(first + into.size() <= tensor.bytes(), "what is read is within the tensor");
  if (Result<void> done = read_at(buffer_begin_ + tensor.begin + first, into); !done)
    return fail(GpuError::io, path_ + ": " + tensor_text(tensor.name) + ": " + done.error().message);
  return {};
}

Result<void> write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata) {
  std::string header;
  JsonWriter json(header);
  json.begin_object();
  if (!metadata.empty()) {
    json.key("__metadata__").begin_object();
    for (const auto& [key, value] : metadata) json.key(key).string(value);
    json.end_object();
  }
  std::uint64_t place = 0;
  std::vector<std::uint64_t> sizes;
  for (const TensorToWrite& tensor : tensors) {
    std::uint64_t bytes = size_of(tensor.dtype);
    json.key(tensor.name).begin_object().key("dtype").string(name_of(tensor.dtype)).key("shape").begin_array();
    for (const std::uint64_t dimension : tensor.shape) {
      json.number(dimension);
      bytes *= dimension;
    }
    json.end_array().key("data_offsets").begin_array().number(place).number(place + bytes).end_array().end_object();
    sizes.push_back(bytes);
    place += bytes;
  }
  json.end_object();
  header.resize((header.size() + length_bytes - 1) / length_bytes * length_bytes, ' ');  // tensors begin aligned

  NewFile file(path);
  const std::uint64_t length = header.size();
  if (Result<void> put = file.append(std::as_bytes(std::span(&length, 1))); !put) return put;
  if (Result<void> put = file.append(std::as_bytes(std::span(header))); !put) return put;
  std::vector<std::byte> buffer;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    for (std::uint64_t first = 0; first < sizes[i]; first += buffer.size()) {
      buffer.resize(std::min<std::uint64_t>(sizes[i] - first, tensor_piece_bytes));
      if (Result<void> filled = tensors[i].fill(first, buffer); !filled) return filled;
      if (Result<void> put = file.append(buffer); !put) return put;
    }
  }
  return file.finish();
}

}  // namespace outlast::gpu
