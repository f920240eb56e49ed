// Tiles of bf16 numbers in shared memory, and products of them by tensor cores.
//
// Who holds what in a warp, with g = lane / 4 and t = lane % 4: of a 16 × 8 result a thread has {row g, columns 2t and 2t + 1} and
// {row g + 8, the same columns}. Two such results side by side are, rounded, the left operand (16 × 16) of a next product.
#pragma once

#include "gpu/cuda/ptx.cuh"

namespace outlast::gpu {

struct Left {   // 16 rows × 16
  std::uint32_t at[4];
};
struct Right {  // 16 × 8 columns, of two neighbours
  std::uint32_t first[2];
  std::uint32_t second[2];
};

__device__ inline std::uint32_t packed(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Two results side by side as a left operand.
__device__ inline Left as_left(const float (&a)[4], const float (&b)[4]) { return {{packed(a[0], a[1]), packed(a[2], a[3]), packed(b[0], b[1]), packed(b[2], b[3])}}; }

// Rows of `dim` numbers in shared memory; the stride is an odd number of 16 bytes, so that eight rows lie in different banks.
template <int dim>
struct Tile {
  static constexpr int stride = dim + 8;
  static constexpr std::size_t bytes_of(int rows) { return static_cast<std::size_t>(rows) * stride * sizeof(bf16); }

  bf16* data;

  // Rows [row, row + 16) and columns [column, column + 16), as they lie.
  __device__ Left left(int row, int column) const {
    const unsigned lane = threadIdx.x % warp_size;
    Left left;
    load_matrices(left.at, data + (row + static_cast<int>(lane % 16)) * stride + column + static_cast<int>(lane / 16) * 8);
    return left;
  }
  // The tile's transpose as the right operand: columns are the tile's rows [row, row + 16), what is summed over its columns
  // [column, column + 16).
  __device__ Right right_of_rows(int row, int column) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    std::uint32_t at[4];
    load_matrices(at, data + (row + lane % 8 + lane / 16 * 8) * stride + column + lane / 8 % 2 * 8);
    return {{at[0], at[1]}, {at[2], at[3]}};
  }
  // The tile as the right operand: what is summed over its rows [row, row + 16), columns its columns [column, column + 16).
  __device__ Right right(int row, int column) const {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    std::uint32_t at[4];
    load_matrices_transposed(at, data + (row + lane % 16) * stride + column + lane / 16 * 8);
    return {{at[0], at[1]}, {at[2], at[3]}};
  }

  // Fills `rows` rows by all threads of the block: `from(row)` is where a row of `numbers` numbers lies, of which there are `filled`;
  // the rest becomes zero. `packs`: whether all rows lie so that 16 bytes can be read at once.
  template <int threads, class From>
  __device__ void fill(int rows, int filled, int numbers, bool packs, const From& from) const {
    constexpr int packs_in_row = dim / pack_size;
    for (int i = static_cast<int>(threadIdx.x); i < rows * packs_in_row; i += threads) {
      const int row = i / packs_in_row;
      const int column = i % packs_in_row * pack_size;
      Pack<pack_size> pack;
      if (row < filled && packs && column < numbers) {
        pack = *reinterpret_cast<const Pack<pack_size>*>(from(row) + column);
      } else {
#pragma unroll
        for (int at = 0; at < pack_size; ++at) pack.at[at] = row < filled && column + at < numbers ? from(row)[column + at] : __float2bfloat16_rn(0.0F);
      }
      *reinterpret_cast<Pack<pack_size>*>(data + row * stride + column) = pack;
    }
  }
};

// Products of a warp, whose rows are the 16 of its results. sums += the rows [row, row + 16) of `left` · `right`ᵀ: columns are the
// first 8 · `columns` rows of `right`.
template <int columns, int dim>
__device__ inline void add_product(float (&sums)[columns][4], const Tile<dim>& left, int row, const Tile<dim>& right) {
#pragma unroll
  for (int at = 0; at < dim; at += 16) {
    const Left rows = left.left(row, at);
#pragma unroll
    for (int n = 0; n < columns; n += 2) {
      const Right both = right.right_of_rows(n * 8, at);
      multiply(sums[n], rows.at, both.first);
      multiply(sums[n + 1], rows.at, both.second);
    }
  }
}
// sums += weights · the first 8 · `rows` rows of `right`
template <int columns, int rows, int dim>
__device__ inline void add_weighted_rows(float (&sums)[columns][4], const float (&weights)[rows][4], const Tile<dim>& right) {
  static_assert(columns == dim / 8);
#pragma unroll
  for (int at = 0; at < rows; at += 2) {
    const Left left = as_left(weights[at], weights[at + 1]);
#pragma unroll
    for (int n = 0; n < columns; n += 2) {
      const Right both = right.right(at * 8, n * 8);
      multiply(sums[n], left.at, both.first);
      multiply(sums[n + 1], left.at, both.second);
    }
  }
}

// The largest and the sum over the four threads that have a row's columns.
__device__ inline float most_of_row(float number) {
  number = fmaxf(number, __shfl_xor_sync(whole_warp, number, 1));
  return fmaxf(number, __shfl_xor_sync(whole_warp, number, 2));
}
__device__ inline float sum_of_row(float number) {
  number += __shfl_xor_sync(whole_warp, number, 1);
  return number + __shfl_xor_sync(whole_warp, number, 2);
}

// Two neighbouring numbers of a result to where they belong.
__device__ inline void store_pair(bf16* to, float first, float second) { *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second); }

}  // namespace outlast::gpu
