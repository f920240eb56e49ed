// Three kernels (Dao 2023, without its atomic additions, so that a step gives the same numbers each time): the dot products of d_out and
// out; d_k and d_v, a block for each tile of keys, which goes over the queries; d_q, a block for each tile of queries, which
// goes over the keys. Probabilities are made again from scores and the logs of their sums, in both.
#include "gpu/cuda/attention_places.cuh"
#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/flash.cuh"

namespace outlast::gpu {
namespace {

using flash::log2_e;
using flash::threads;
using flash::tile_rows;

struct Places {
  HeadPlaces heads;
  const std::int32_t* begins;
  bf16* d_q;
  bf16* d_k;
  bf16* d_qkv;
  const bf16* d_out;
  const bf16* out;
  const float* log_sums;
  float* dots;  // f32 [rows, heads]
  const bf16* q;
  const bf16* k;
  const bf16* qkv;
  float scale;
  bool packs;
  [[nodiscard]] __device__ std::size_t of_row(int row, unsigned head) const { return static_cast<std::size_t>(row) * heads.heads + head; }
};

// A warp for each head of each row.
__global__ void __launch_bounds__(threads) dot_rows(Places places, std::size_t items) {
  const std::size_t item = std::size_t{blockIdx.x} * (threads / warp_size) + threadIdx.x / warp_size;
  if (item >= items) return;
  const std::size_t at = item * places.heads.dim;
  float dot = 0;
  for (unsigned i = threadIdx.x % warp_size; i < places.heads.dim; i += warp_size) dot += __bfloat162float(places.d_out[at + i]) * __bfloat162float(places.out[at + i]);
  dot = warp_sum(dot);
  if (threadIdx.x % warp_size == 0) places.dots[item] = dot;
}

// What fits into registers.
template <int dim>
inline constexpr int queries_at_once = dim <= 64 ? 64 : 32;

template <int dim>
constexpr std::size_t keys_shared_bytes() {
  return 2 * Tile<dim>::bytes_of(tile_rows) + 2 * Tile<dim>::bytes_of(queries_at_once<dim>) + 2 * queries_at_once<dim> * sizeof(float);
}

// blockIdx = {tile of keys and sequence, key-value head}. Scores are computed transposed, keys by queries, so that a warp's sixteen
// keys are its own and nothing is added up between warps.
template <int dim>
__global__ void __launch_bounds__(threads) keys_backward(Places places, unsigned tiles) {
  constexpr int at_once = queries_at_once<dim>;
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile<dim> k{reinterpret_cast<bf16*>(shared)};
  const Tile<dim> v{k.data + tile_rows * Tile<dim>::stride};
  const Tile<dim> q{v.data + tile_rows * Tile<dim>::stride};
  const Tile<dim> d_out{q.data + at_once * Tile<dim>::stride};
  float* const log_sums = reinterpret_cast<float*>(d_out.data + at_once * Tile<dim>::stride);  // in powers of 2
  float* const dots = log_sums + at_once;

  const HeadPlaces& heads = places.heads;
  const unsigned sequence = blockIdx.x / tiles;
  const unsigned kv = blockIdx.y;
  const int first = places.begins[sequence];
  const int rows = places.begins[sequence + 1] - first;
  const int from = static_cast<int>(blockIdx.x % tiles) * tile_rows;  // earlier keys have more queries, and come first
  if (from >= rows) return;
  const int size = min(tile_rows, rows - from);
  const int head_dim = static_cast<int>(heads.dim);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int warp_row = static_cast<int>(threadIdx.x / warp_size) * 16;
  const int row = warp_row + lane / 4;  // of the keys; and the one 8 below
  const int column = lane % 4 * 2;
  k.template fill<threads>(tile_rows, size, head_dim, places.packs, [&](int at) { return places.k + heads.k(first + from + at, kv); });
  v.template fill<threads>(tile_rows, size, head_dim, places.packs, [&](int at) { return places.qkv + heads.v(first + from + at, kv); });

  const float scale_2 = places.scale * log2_e;
  float d_k[dim / 8][4] = {};
  float d_v[dim / 8][4] = {};
  for (unsigned head = kv * heads.group(); head < (kv + 1) * heads.group(); ++head) {
    for (int query = from; query < rows; query += at_once) {
      __syncthreads();  // all are done with the tiles before
      const int filled = min(at_once, rows - query);
      q.template fill<threads>(at_once, filled, head_dim, places.packs, [&](int at) { return places.q + heads.q(first + query + at, head); });
      d_out.template fill<threads>(at_once, filled, head_dim, places.packs, [&](int at) { return places.d_out + heads.q(first + query + at, head); });
      for (int at = static_cast<int>(threadIdx.x); at < at_once; at += threads) {
        const bool is_there = at < filled;  // probabilities of the others become 0
        log_sums[at] = is_there ? places.log_sums[places.of_row(first + query + at, head)] * log2_e : INFINITY;
        dots[at] = is_there ? places.dots[places.of_row(first + query + at, head)] : 0.0F;
      }
      __syncthreads();
      float p[at_once / 8][4] = {};    // keys by queries
      float d_p[at_once / 8][4] = {};
      add_product(p, k, warp_row, q);
      add_product(d_p, v, warp_row, d_out);
#pragma unroll
      for (int n = 0; n < at_once / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int of = n * 8 + column + i % 2;  // the query, in its tile
          const bool sees = query + of >= from + row + i / 2 * 8;
          p[n][i] = sees ? exp2f(p[n][i] * scale_2 - log_sums[of]) : 0.0F;
          d_p[n][i] = p[n][i] * (d_p[n][i] - dots[of]) * places.scale;
        }
      }
      add_weighted_rows(d_v, p, d_out);
      add_weighted_rows(d_k, d_p, q);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + half * 8;
    if (at >= size) continue;
    bf16* const to_k = places.d_k + heads.k(first + from + at, kv);
    bf16* const to_v = places.d_qkv + heads.v(first + from + at, kv);
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) {
      if (n * 8 + column >= head_dim) continue;
      store_pair(to_k + n * 8 + column, d_k[n][2 * half], d_k[n][2 * half + 1]);
      store_pair(to_v + n * 8 + column, d_v[n][2 * half], d_v[n][2 * half + 1]);
    }
  }
}

template <int dim>
constexpr std::size_t queries_shared_bytes() {
  return 4 * Tile<dim>::bytes_of(tile_rows);
}

// blockIdx = {tile of queries and sequence, head}.
template <int dim>
__global__ void __launch_bounds__(threads) queries_backward(Places places, unsigned tiles) {
  extern __shared__ __align__(16) unsigned char shared[];
  const Tile<dim> q{reinterpret_cast<bf16*>(shared)};
  const Tile<dim> d_out{q.data + tile_rows * Tile<dim>::stride};
  const Tile<dim> k{d_out.data + tile_rows * Tile<dim>::stride};
  const Tile<dim> v{k.data + tile_rows * Tile<dim>::stride};

  const HeadPlaces& heads = places.heads;
  const unsigned sequence = blockIdx.x / tiles;
  const unsigned head = blockIdx.y;
  const unsigned kv = heads.kv_of(head);
  const int first = places.begins[sequence];
  const int rows = places.begins[sequence + 1] - first;
  const int from = static_cast<int>(tiles - 1 - blockIdx.x % tiles) * tile_rows;
  if (from >= rows) return;
  const int size = min(tile_rows, rows - from);
  const int head_dim = static_cast<int>(heads.dim);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const int warp_row = static_cast<int>(threadIdx.x / warp_size) * 16;
  const int row = warp_row + lane / 4;  // and the one 8 below
  const int column = lane % 4 * 2;
  q.template fill<threads>(tile_rows, size, head_dim, places.packs, [&](int at) { return places.q + heads.q(first + from + at, head); });
  d_out.template fill<threads>(tile_rows, size, head_dim, places.packs, [&](int at) { return places.d_out + heads.q(first + from + at, head); });
  float log_sum[2];
  float dot[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const bool is_there = row + half * 8 < size;
    const std::size_t at = places.of_row(first + from + row + half * 8, head);
    log_sum[half] = is_there ? places.log_sums[at] * log2_e : INFINITY;
    dot[half] = is_there ? places.dots[at] : 0.0F;
  }

  const float scale_2 = places.scale * log2_e;
  float d_q[dim / 8][4] = {};
  for (int key = 0; key < from + size; key += tile_rows) {
    __syncthreads();  // all are done with the tiles before
    const int filled = min(tile_rows, rows - key);
    k.template fill<threads>(tile_rows, filled, head_dim, places.packs, [&](int at) { return places.k + heads.k(first + key + at, kv); });
    v.template fill<threads>(tile_rows, filled, head_dim, places.packs, [&](int at) { return places.qkv + heads.v(first + key + at, kv); });
    __syncthreads();
    float p[tile_rows / 8][4] = {};
    float d_p[tile_rows / 8][4] = {};
    add_product(p, q, warp_row, k);
    add_product(d_p, d_out, warp_row, v);
#pragma unroll
    for (int n = 0; n < tile_rows / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool sees = key + n * 8 + column + i % 2 <= from + row + i / 2 * 8;
        const float probability = sees ? exp2f(p[n][i] * scale_2 - log_sum[i / 2]) : 0.0F;
        d_p[n][i] = probability * (d_p[n][i] - dot[i / 2]) * places.scale;
      }
    }
    add_weighted_rows(d_q, d_p, k);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + half * 8;
    if (at >= size) continue;
    bf16* const to = places.d_q + heads.q(first + from + at, head);
#pragma unroll
    for (int n = 0; n < dim / 8; ++n) {
      if (n * 8 + column < head_dim) store_pair(to + n * 8 + column, d_q[n][2 * half], d_q[n][2 * half + 1]);
    }
  }
}

}  // namespace

void CudaDevice::run(const AttentionBackward& operation) {
  const HeadShape& shape = operation.shape;
  const std::size_t items = operation.log_sum.count;  // rows · heads
  if (operation.sequences == 0 || operation.longest == 0 || items == 0) return;
  constexpr const char* what = "attention's gradient";
  if (!can_attend(shape)) return keep(what, attention_limits);
  float* const dots = scratch(items);
  if (dots == nullptr) return;
  const Places places{HeadPlaces(shape),
                      operation.begins.as<std::int32_t>(),
                      bf16_of(operation.d_q),
                      bf16_of(operation.d_k),
                      bf16_of(operation.d_qkv),
                      bf16_of(operation.d_out),
                      bf16_of(operation.out),
                      operation.log_sum.as<float>(),
                      dots,
                      bf16_of(operation.q),
                      bf16_of(operation.k),
                      bf16_of(operation.qkv),
                      attention_scale(shape),
                      can_pack(shape.dim, {operation.q.data, operation.k.data, operation.qkv.data, operation.d_out.data})};
  const auto tiles = static_cast<unsigned>(divided_up<std::size_t>(operation.longest, tile_rows));
  const auto of_keys = static_cast<unsigned>(shape.kv_heads);
  const auto of_queries = static_cast<unsigned>(shape.heads);
  const auto launch = [&](void (*kernel)(Places, unsigned), unsigned heads, std::size_t bytes) {
    if (!let_share(reinterpret_cast<const void*>(kernel), bytes, what)) return;
    kernel<<<dim3(static_cast<unsigned>(tiles * operation.sequences), heads), threads, bytes, stream()>>>(places, tiles);
    launched(what);
  };
  dot_rows<<<static_cast<unsigned>(divided_up<std::size_t>(items, threads / warp_size)), threads, 0, stream()>>>(places, items);
  launched(what);
  if (shape.dim <= 64) {
    launch(&keys_backward<64>, of_keys, keys_shared_bytes<64>());
    launch(&queries_backward<64>, of_queries, queries_shared_bytes<64>());
  } else {
    launch(&keys_backward<128>, of_keys, keys_shared_bytes<128>());
    launch(&queries_backward<128>, of_queries, queries_shared_bytes<128>());
  }
}

}  // namespace outlast::gpu
