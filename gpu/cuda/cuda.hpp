// The CUDA device, without CUDA's headers. Linked only where the build has it (OUTLAST_HAS_CUDA).
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "core/result.hpp"
#include "gpu/device.hpp"

namespace outlast::gpu {

// Device `number`, as the driver counts; it computes in bf16. Errors: device (no driver, no such device, or one that is too old).
Result<std::unique_ptr<Device>> make_cuda_device(int number);

// What a GPU can do at best, by NVIDIA's data sheets: dense bf16 with sums in fp32, and its memory.
struct CudaPeak {
  double flops = 0;
  double bytes_per_second = 0;
};
// `device`: as Device::name() says it. None where it is not in the table of peaks.cpp.
std::optional<CudaPeak> cuda_peak(std::string_view device);

}  // namespace outlast::gpu
