// WeightFiles: the weights in a model's folder, in one model.safetensors or in the shards that
// model.safetensors.index.json lists.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gpu/files/safetensors.hpp"

namespace outlast::gpu {

inline constexpr std::size_t shards_max = 4'096;

// The file of each tensor, as an index says. Errors: malformed (a shard's name is a path, or a text is none).
Result<std::map<std::string, std::string>> parse_weight_index(std::string_view json);

// Immutable once open: any thread.
class WeightFiles {
 public:
  // Errors: io, malformed, unsupported.
  static Result<std::unique_ptr<WeightFiles>> open(const std::string& folder);

  struct Place {
    const SafetensorsFile* file = nullptr;
    const TensorInfo* tensor = nullptr;
  };
  // Null where there is no such tensor.
  [[nodiscard]] Place find(std::string_view name) const;
  [[nodiscard]] std::vector<std::string> names() const;

  // Errors: malformed (there is none, or its shape is another).
  [[nodiscard]] Result<void> check_tensor(std::string_view name, std::span<const std::uint64_t> shape) const;
  // The tensor's numbers as fp32, whatever float they are stored as. Errors: as of check_tensor(),
  // unsupported (it has no floats), io.
  Result<void> read(std::string_view name, std::span<const std::uint64_t> shape, std::span<float> into) const;

 private:
  std::string folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace outlast::gpu
