// The kernel of causal attention, forward (Dao et al. 2022): for whole sequences (attention.cu) and for rows that go on from pages
// (paged_attention.cu). `Places` says where things lie; scores of one tile exist at a time, in registers.
#pragma once

#include <cmath>

#include "gpu/cuda/tensor_core.cuh"

namespace outlast::gpu::flash {

inline constexpr int warps = 4;
inline constexpr int threads = warps * static_cast<int>(warp_size);
inline constexpr int tile_rows = 16 * warps;  // queries of a block, and keys at once
inline constexpr float log2_e = 1.44269504F;
inline constexpr float ln_2 = 0.69314718F;

template <int dim>
constexpr std::size_t shared_bytes() {
  return 3 * Tile<dim>::bytes_of(tile_rows);
}

// One sequence, as a block sees it.
struct Range {
  int first;    // its first row
  int queries;  // its rows
  int before;   // keys before its first row's own
};

// A block for each tile of queries of each sequence, and each head: blockIdx = {tile and sequence, head}. Where begins are is for the
// device to know, so there are `tiles` for each sequence and those beyond its end do nothing. `head_dim` is at most dim, and even.
template <int dim, class Places>
__global__ void __launch_bounds__(threads) attend(Places places, unsigned tiles, int head_dim, float scale) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile<dim> q{reinterpret_cast<bf16*>(shared)};
  const Tile<dim> k{q.data + tile_rows * Tile<dim>::stride};
  const Tile<dim> v{k.data + tile_rows * Tile<dim>::stride};
  const unsigned sequence = blockIdx.x / tiles;
  const unsigned head = blockIdx.y;
  const Range range = places.range(sequence);
  // Later tiles have more keys, and come first.
  const int from = static_cast<int>(tiles - 1 - blockIdx.x % tiles) * tile_rows;
  if (from >= range.queries) return;
  const int size = min(tile_rows, range.queries - from);
  const int keys = range.before + from + size;
  const auto source = places.of(sequence, head);

  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int warp_row = static_cast<int>(threadIdx.x / warp_size) * 16;
  const int row = warp_row + lane / 4;  // and the one 8 below
  const int column = lane % 4 * 2;
  q.template fill<threads>(tile_rows, size, head_dim, places.packs, [&](int at) { return source.q(range.first + from + at); });

  const float scale_2 = scale * log2_e;
  float most[2] = {-INFINITY, -INFINITY};  // of scaled scores, in powers of 2
  float sum[2] = {0, 0};                   // this thread's columns
  float out[dim / 8][4] = {};
  for (int key = 0; key < keys; key += tile_rows) {
    __syncthreads();  // all are done with the tiles before
    const int filled = min(tile_rows, keys - key);
    k.template fill<threads>(tile_rows, filled, head_dim, places.packs, [&](int at) { return source.k(key + at); });
    v.template fill<threads>(tile_rows, filled, head_dim, places.packs, [&](int at) { return source.v(key + at); });
    __syncthreads();
    float scores[tile_rows / 8][4] = {};
    add_product(scores, q, warp_row, k);
    // A query sees the keys up to its own; the last key of the tile may be beyond.
    const int own = range.before + from + row - key;
#pragma unroll
    for (int n = 0; n < tile_rows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = n * 8 + column + i % 2 > own + i / 2 * 8 ? -INFINITY : scores[n][i] * scale_2;
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = most[half];
#pragma unroll
      for (int n = 0; n < tile_rows / 8; ++n) now = fmaxf(now, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      now = most_of_row(now);
      // The first tile has a key for every query, so `now` is a number.
      const float shrink = exp2f(most[half] - now);
      most[half] = now;
      sum[half] *= shrink;
#pragma unroll
      for (int n = 0; n < tile_rows / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = exp2f(scores[n][i] - now);
          sum[half] += scores[n][i];
        }
      }
#pragma unroll
      for (int n = 0; n < dim / 8; ++n) {
        out[n][2 * half] *= shrink;
        out[n][2 * half + 1] *= shrink;
      }
    }
    add_weighted_rows(out, scores, v);
  }
  const float wholes[2] = {sum_of_row(sum[0]), sum_of_row(sum[1])};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + half * 8;
    if (at >= size) continue;
    const float inverse = 1.0F / wholes[half];
    bf16* const to = source.out(range.first + from + at);
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) {
      if (n * 8 + column < head_dim) store_pair(to + n * 8 + column, out[n][2 * half] * inverse, out[n][2 * half + 1] * inverse);
    }
    if (lane % 4 == 0) source.tell_log_sum(range.first + from + at, most[half] * ln_2 + logf(wholes[half]));
  }
}

}  // namespace outlast::gpu::flash
