// The instructions of gpu/cuda/ptx.cuh as the PTX ISA describes them, for the emulator.
#pragma once

#include <cstdint>

#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace ptx {

// mma.m16n8k16 and ldmatrix: with g = lane / 4 and t = lane % 4 …
struct Matrices {
  std::uint32_t* to;
  const bf16* row;
};

inline std::uint32_t both(bf16 low, bf16 high) { return low.bits | std::uint32_t{high.bits} << 16; }

// … register i of a thread is, of the matrix of 8 × 8 numbers whose rows threads 8 i to 8 i + 7 give, {row g, columns 2t and 2t + 1};
// or of its transpose.
template <bool transposed>
void load(void* const (&parts)[cuda_emulator::warp_size]) {
  for (unsigned lane = 0; lane < cuda_emulator::warp_size; ++lane) {
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      const auto row = [&](unsigned number) { return static_cast<const Matrices*>(parts[8 * i + number])->row; };
      static_cast<Matrices*>(parts[lane])->to[i] = transposed ? both(row(2 * t)[g], row(2 * t + 1)[g]) : both(row(g)[2 * t], row(g)[2 * t + 1]);
    }
  }
}

struct Product {
  float* sums;
  const std::uint32_t* left;
  const std::uint32_t* right;
};

inline float number_of(std::uint32_t pair, unsigned which) { return __bfloat162float({static_cast<std::uint16_t>(which == 0 ? pair : pair >> 16)}); }

// left[0..3]: {row g, columns 2t, 2t + 1}, {row g + 8, the same}, {row g, columns 2t + 8, 2t + 9}, {row g + 8, the same}.
// right[0..1]: {rows 2t, 2t + 1, column g}, {rows 2t + 8, 2t + 9, column g}. sums[0..3]: {row g, columns 2t, 2t + 1}, {row g + 8, the same}.
inline void multiply_all(void* const (&parts)[cuda_emulator::warp_size]) {
  float left[16][16];
  float right[16][8];
  for (unsigned lane = 0; lane < cuda_emulator::warp_size; ++lane) {
    const auto& part = *static_cast<const Product*>(parts[lane]);
    const unsigned g = lane / 4;
    const unsigned t = lane % 4;
    for (unsigned i = 0; i < 4; ++i) {
      for (unsigned which = 0; which < 2; ++which) left[g + i % 2 * 8][2 * t + i / 2 * 8 + which] = number_of(part.left[i], which);
    }
    for (unsigned i = 0; i < 2; ++i) {
      for (unsigned which = 0; which < 2; ++which) right[2 * t + i * 8 + which][g] = number_of(part.right[i], which);
    }
  }
  float products[16][8] = {};
  for (unsigned row = 0; row < 16; ++row) {
    for (unsigned k = 0; k < 16; ++k) {
      for (unsigned column = 0; column < 8; ++column) products[row][column] += left[row][k] * right[k][column];
    }
  }
  for (unsigned lane = 0; lane < cuda_emulator::warp_size; ++lane) {
    const auto& part = *static_cast<const Product*>(parts[lane]);
    for (unsigned i = 0; i < 4; ++i) part.sums[i] += products[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

template <bool transposed>
void load(std::uint32_t (&to)[4], const bf16* row) {
  if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0) cuda_emulator::stop("ldmatrix reads rows at multiples of 16 bytes only");
  Matrices part{to, row};
  cuda_emulator::together(&load<transposed>, &part);
}

}  // namespace ptx

inline void load_matrices(std::uint32_t (&to)[4], const bf16* row) { ptx::load<false>(to, row); }
inline void load_matrices_transposed(std::uint32_t (&to)[4], const bf16* row) { ptx::load<true>(to, row); }
inline void multiply(float (&sums)[4], const std::uint32_t (&left)[4], const std::uint32_t (&right)[2]) {
  ptx::Product part{sums, left, right};
  cuda_emulator::together(&ptx::multiply_all, &part);
}

}  // namespace outlast::gpu
