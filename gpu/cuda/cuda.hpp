// The CUDA device, without CUDA's headers. Linked only where the build has it (OUTLAST_HAS_CUDA).
#pragma once

#include <memory>

#include "core/result.hpp"
#include "gpu/device.hpp"

namespace outlast::gpu {

// Device `number`, as the driver counts; it computes in bf16. Errors: device (no driver, no such device, or one that is too old).
Result<std::unique_ptr<Device>> make_cuda_device(int number);

}  // namespace outlast::gpu
