// Safetensors files: named tensors in one file, read and written strictly.
//
// A file is read by position, never mapped: one that is cut off under a reader is an error, not a signal. Refused, with the
// tensor and the cause: whatever another reader could understand in another way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gpu/files/dtype.hpp"

namespace outlast::gpu {

inline constexpr std::uint64_t safetensors_header_bytes_max = 100'000'000;
inline constexpr std::size_t tensor_rank_max = 8;
inline constexpr std::size_t tensors_max = 1'000'000;
inline constexpr std::size_t tensor_piece_bytes = 16U << 20;  // in memory at once, on the way to or from a file

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;  // outermost first; row-major
  std::uint64_t begin = 0;           // in the file's buffer, bytes
  std::uint64_t end = 0;

  [[nodiscard]] std::uint64_t count() const;  // elements
  [[nodiscard]] std::uint64_t bytes() const { return end - begin; }
  bool operator==(const TensorInfo&) const = default;
};

// "[1024, 128]"
std::string shape_text(std::span<const std::uint64_t> shape);

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their places
  std::map<std::string, std::string> metadata;
};
// The JSON of a file whose buffer has `buffer_bytes`. Errors: malformed, unsupported (a dtype).
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, std::uint64_t buffer_bytes);

// Immutable once open: any thread.
class SafetensorsFile {
 public:
  // Errors: io, malformed, unsupported; each begins with the path.
  static Result<std::unique_ptr<SafetensorsFile>> open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  // A tensor's bytes from `first` on. Errors: io, also when the file became shorter.
  Result<void> read(const TensorInfo& tensor, std::span<std::byte> into, std::uint64_t first = 0) const;

 private:
  SafetensorsFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  Result<void> read_header();
  Result<void> read_at(std::uint64_t place, std::span<std::byte> into) const;

  const std::string path_;
  const int descriptor_;
  std::uint64_t buffer_begin_ = 0;
  SafetensorsHeader header_;
  std::map<std::string_view, const TensorInfo*> by_name_;
};

struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;
  // Fills the tensor's bytes from `first` on; called in order, for a piece of a few MiB each time, of whole numbers.
  std::function<Result<void>(std::size_t first, std::span<std::byte>)> fill;
};
// The file is there whole or not at all. Errors: io, and what `fill` says.
Result<void> write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                               const std::map<std::string, std::string>& metadata);

}  // namespace outlast::gpu
