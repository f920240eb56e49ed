// The CUDA device, without CUDA's headers. Linked only where the build has it (OUTLAST_HAS_CUDA).
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string_view>

#include "core/result.hpp"
#include "gpu/collective/collective.hpp"
#include "gpu/collective/rendezvous.hpp"
#include "gpu/device.hpp"

namespace outlast::gpu {

// Device `number`, as the driver counts; it computes in bf16. Errors: device (no driver, no such device, or one that is too old).
Result<std::unique_ptr<Device>> make_cuda_device(int number);

// Connects the ranks of a generation, each with a GPU of its own: `device` is of make_cuda_device(). It and `rendezvous`, which is
// watched, outlive the collective. `patience`: how long an operation waits for a rank that lives and does not come. Errors: peer_lost,
// io, device; unsupported (this build has no NCCL).
Result<std::unique_ptr<Collective>> make_nccl_collective(Device& device, Rendezvous& rendezvous, const Generation& generation, std::chrono::milliseconds patience);

// What a GPU can do at best, by NVIDIA's data sheets: dense bf16 with sums in fp32, and its memory.
struct CudaPeak {
  double flops = 0;
  double bytes_per_second = 0;
};
// `device`: as Device::name() says it. None where it is not in the table of peaks.cpp.
std::optional<CudaPeak> cuda_peak(std::string_view device);

}  // namespace outlast::gpu
