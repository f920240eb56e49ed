// What kernels share: numbers in bf16 and fp32, and sums over a warp or a block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "gpu/array.hpp"

namespace outlast::gpu {

using bf16 = __nv_bfloat16;

inline constexpr unsigned warp_size = 32;
inline constexpr unsigned whole_warp = 0xFFFF'FFFFU;

inline bf16* bf16_of(const Array& array) {
  check(array.dtype == Dtype::bf16 || array.empty(), "a CUDA device computes in bf16");
  return static_cast<bf16*>(array.data);
}

template <class T>
constexpr T divided_up(T number, T by) {
  return (number + by - 1) / by;
}

// So many numbers that are read and written at once.
template <int size>
struct alignas(size * sizeof(bf16)) Pack {
  bf16 at[size];
};
template <int size>
__device__ inline void load(float (&out)[size], const bf16* from) {
  const auto pack = *reinterpret_cast<const Pack<size>*>(from);
#pragma unroll
  for (int i = 0; i < size; ++i) out[i] = __bfloat162float(pack.at[i]);
}
template <int size>
__device__ inline void store(bf16* to, const float (&numbers)[size]) {
  Pack<size> pack;
#pragma unroll
  for (int i = 0; i < size; ++i) pack.at[i] = __float2bfloat16_rn(numbers[i]);
  *reinterpret_cast<Pack<size>*>(to) = pack;
}

inline constexpr int pack_size = 8;
// Whether rows of `width` numbers in these arrays can be read pack_size at a time.
inline bool can_pack(std::size_t width, std::initializer_list<const void*> arrays) {
  if (width % pack_size != 0) return false;
  for (const void* const array : arrays) {
    if (reinterpret_cast<std::uintptr_t>(array) % sizeof(Pack<pack_size>) != 0) return false;
  }
  return true;
}

__device__ inline float warp_sum(float number) {
#pragma unroll
  for (unsigned apart = warp_size / 2; apart > 0; apart /= 2) number += __shfl_xor_sync(whole_warp, number, apart);
  return number;
}

// The sum over a block of so many threads, all of which call it and get it; always added up in the same order.
template <int threads>
__device__ inline float block_sum(float number) {
  static_assert(threads % warp_size == 0);
  __shared__ float sums[threads / warp_size];
  number = warp_sum(number);
  __syncthreads();  // what was there before has been read
  if (threadIdx.x % warp_size == 0) sums[threadIdx.x / warp_size] = number;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (unsigned warp = 0; warp < threads / warp_size; ++warp) sum += sums[warp];
  return sum;
}

}  // namespace outlast::gpu
