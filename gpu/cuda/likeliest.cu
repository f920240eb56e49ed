// One block for each row, which reads it once. As gpu/cpu/likeliest.cpp.
#include <climits>
#include <cmath>

#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr int threads = 512;

// Of a part of a row: the largest and its first place, and Σ e^(x − most), which is NaN where a number is none.
struct Found {
  float most;
  int place;
  float sum;

  __device__ void add(float x, int at) {
    if (x > most) {
      sum *= __expf(most - x);
      most = x;
      place = at;
    }
    sum += __expf(x - most) + (x - x);  // 0, but for what is not finite
  }
  __device__ void add(const Found& other) {
    Found smaller = other;
    if (other.most > most || (other.most == most && other.place < place)) {
      smaller = *this;
      *this = other;
    }
    sum += smaller.most < most ? smaller.sum * __expf(smaller.most - most) : smaller.sum;
  }
  [[nodiscard]] __device__ Found of_lane(unsigned apart) const {
    return {__shfl_xor_sync(whole_warp, most, apart), __shfl_xor_sync(whole_warp, place, apart), __shfl_xor_sync(whole_warp, sum, apart)};
  }
};

template <int size>
__global__ void __launch_bounds__(threads) likeliest(std::int32_t* tokens, float* log_p, const bf16* logits, unsigned width) {
  __shared__ Found of_warps[threads / warp_size];
  const bf16* const row = logits + static_cast<std::size_t>(blockIdx.x) * width;
  Found own{-INFINITY, INT_MAX, 0};
  const unsigned whole = width / size * size;
  for (unsigned i = threadIdx.x * size; i < whole; i += threads * size) {
    float numbers[size];
    load(numbers, row + i);
#pragma unroll
    for (int at = 0; at < size; ++at) own.add(numbers[at], static_cast<int>(i) + at);
  }
#pragma unroll
  for (unsigned apart = warp_size / 2; apart > 0; apart /= 2) own.add(own.of_lane(apart));
  if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = own;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (unsigned warp = 1; warp < threads / warp_size; ++warp) own.add(of_warps[warp]);
  const float found = -logf(own.sum);
  tokens[blockIdx.x] = found == found ? own.place : 0;
  log_p[blockIdx.x] = found;
}

}  // namespace

void CudaDevice::run(const Likeliest& operation) {
  const auto rows = static_cast<unsigned>(operation.tokens.count);
  if (rows == 0) return;
  const bf16* const logits = bf16_of(operation.logits);
  auto* const tokens = operation.tokens.as<std::int32_t>();
  auto* const log_p = operation.log_p.as<float>();
  const auto width = static_cast<unsigned>(operation.width);
  if (can_pack(operation.width, {logits})) likeliest<pack_size><<<rows, threads, 0, stream()>>>(tokens, log_p, logits, width);
  else likeliest<1><<<rows, threads, 0, stream()>>>(tokens, log_p, logits, width);
  launched("the likeliest tokens");
}

}  // namespace outlast::gpu
