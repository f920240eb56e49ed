#include <iterator>

#include "gpu/cuda/cuda.hpp"

namespace outlast::gpu {
namespace {

// "NVIDIA H100 Tensor Core GPU" and the like; those of H100 and H200 state twice the dense figure, with sparsity. The first whose name
// is within the device's counts.
struct DataSheet {
  std::string_view name;
  CudaPeak peak;
};
constexpr DataSheet sheets[] = {
    {"H200 NVL", {835e12, 4.8e12}},       {"H200", {989e12, 4.8e12}},           {"H100 NVL", {835e12, 3.9e12}},         {"H100 PCIe", {756e12, 2.0e12}},
    {"H100", {989e12, 3.35e12}},          {"A100-SXM4-80GB", {312e12, 2.039e12}}, {"A100 80GB PCIe", {312e12, 1.935e12}}, {"A100", {312e12, 1.555e12}},
};

}  // namespace

std::optional<CudaPeak> cuda_peak(std::string_view device) {
  for (const DataSheet& sheet : sheets) {
    if (device.find(sheet.name) != std::string_view::npos) return sheet.peak;
  }
  return std::nullopt;
}

}  // namespace outlast::gpu
