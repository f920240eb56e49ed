// CUDA's language in C++, for the emulator.
#pragma once

#include <algorithm>
#include <cmath>

#include "tests/cuda_emulator/emulator.hpp"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
// One block runs at a time on a thread of the CPU.
#define __shared__ static thread_local

#define threadIdx (cuda_emulator::current().thread)
#define blockIdx (cuda_emulator::current().block)
#define blockDim (cuda_emulator::current().block_size)
#define gridDim (cuda_emulator::current().grid_size)

inline void __syncthreads() { cuda_emulator::barrier(); }
inline int __syncthreads_or(int value) { return cuda_emulator::barrier_or(value != 0) ? 1 : 0; }

namespace cuda_emulator {

template <class T>
struct Shuffle {
  T value;
  int with;
  T got;
};

template <class T>
void shuffle_xor(void* const (&parts)[warp_size]) {
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    auto& mine = *static_cast<Shuffle<T>*>(parts[lane]);
    mine.got = static_cast<Shuffle<T>*>(parts[lane ^ static_cast<unsigned>(mine.with)])->value;
  }
}

}  // namespace cuda_emulator

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with) {
  if (mask != 0xFFFF'FFFFU) cuda_emulator::stop("a shuffle of less than a warp");
  cuda_emulator::Shuffle<T> part{value, with, value};
  cuda_emulator::together(&cuda_emulator::shuffle_xor<T>, &part);
  return part.got;
}

inline float __expf(float x) { return std::exp(x); }
using std::max;
using std::min;
