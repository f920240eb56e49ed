// In a build that found no NCCL.
#include "gpu/cuda/cuda.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {

Result<std::unique_ptr<Collective>> make_nccl_collective(Device& /*device*/, Rendezvous& /*rendezvous*/, const Generation& /*generation*/,
                                                         std::chrono::milliseconds /*patience*/) {
  return fail(GpuError::unsupported, "this build has no NCCL, by which ranks on GPUs work together; install it beside the CUDA toolkit and build again");
}

}  // namespace outlast::gpu
