// Rows go on from pages in one of two ways: where every sequence has one row, as in decoding, a block takes a piece of the keys for all
// heads that share them, and the pieces are put together; otherwise tiles of queries attend as in flash.cuh.
#include <algorithm>

#include "gpu/cuda/attention_places.cuh"
#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/flash.cuh"

namespace outlast::gpu {
namespace {

struct Places {
  HeadPlaces heads;
  const std::int32_t* begins;
  const std::int32_t* positions;
  const std::int32_t* tables;
  unsigned sequences;
  unsigned table_width;
  unsigned page_rows;
  bf16* out;
  bf16* keys;
  bf16* values;
  const bf16* q;
  const bf16* k;
  const bf16* qkv;
  bool packs;

  // Where a key-value head of a position lies in keys and values.
  [[nodiscard]] __device__ std::size_t page_place(unsigned sequence, unsigned kv, unsigned position) const {
    const auto page = static_cast<std::size_t>(tables[static_cast<std::size_t>(sequence) * table_width + position / page_rows]);
    return ((page * heads.kv_heads + kv) * page_rows + position % page_rows) * heads.dim;
  }
  // The last sequence that begins at the row or before it: one without rows begins where the next one does.
  [[nodiscard]] __device__ unsigned sequence_of(int row) const {
    unsigned low = 0;
    unsigned high = sequences;
    while (high - low > 1) {
      const unsigned middle = (low + high) / 2;
      if (begins[middle] <= row) low = middle;
      else high = middle;
    }
    return low;
  }

  struct Source {
    const Places& all;
    unsigned sequence;
    unsigned head;
    unsigned kv;
    __device__ const bf16* q(int row) const { return all.q + all.heads.q(row, head); }
    __device__ const bf16* k(int key) const { return all.keys + all.page_place(sequence, kv, static_cast<unsigned>(key)); }
    __device__ const bf16* v(int key) const { return all.values + all.page_place(sequence, kv, static_cast<unsigned>(key)); }
    __device__ bf16* out(int row) const { return all.out + all.heads.q(row, head); }
    __device__ void tell_log_sum(int /*row*/, float /*log_sum*/) const {}
  };
  __device__ flash::Range range(unsigned sequence) const {
    const int first = begins[sequence];
    const int rows = begins[sequence + 1] - first;
    return {first, rows, rows > 0 ? positions[first] : 0};
  }
  __device__ Source of(unsigned sequence, unsigned head) const { return {*this, sequence, head, heads.kv_of(head)}; }
};

constexpr unsigned threads = 128;
constexpr unsigned piece_keys = 256;  // of one block

// The rows' own keys and values, each to its place: a block for each row.
__global__ void __launch_bounds__(threads) write_rows(Places places) {
  const int row = static_cast<int>(blockIdx.x);
  const unsigned sequence = places.sequence_of(row);
  const auto position = static_cast<unsigned>(places.positions[row]);
  const unsigned dim = places.heads.dim;
  for (unsigned i = threadIdx.x; i < places.heads.kv_heads * dim; i += threads) {
    const unsigned kv = i / dim;
    const std::size_t to = places.page_place(sequence, kv, position) + i % dim;
    places.keys[to] = places.k[places.heads.k(row, kv) + i % dim];
    places.values[to] = places.qkv[places.heads.v(row, kv) + i % dim];
  }
}

// What one block found of a row's head: Σ p·v, Σ p, and the scaled score that p is relative to.
struct Pieces {
  float* values;  // f32 [rows, heads, pieces, dim]
  float* sums;    // f32 [rows, heads, pieces]
  float* most;    // f32 [rows, heads, pieces]
  unsigned pieces;
};

// A key's scores for all heads of its group, from queries in shared memory [group, dim].
template <int size>
__device__ void score(float* scores, const float* q, const bf16* key, unsigned group, unsigned dim, float scale) {
  for (unsigned head = 0; head < group; ++head) scores[head * piece_keys] = 0;
  for (unsigned i = 0; i < dim; i += size) {
    float k[size];
    load(k, key + i);
    for (unsigned head = 0; head < group; ++head) {
      float dot = 0;
#pragma unroll
      for (int at = 0; at < size; ++at) dot += k[at] * q[head * dim + i + at];
      scores[head * piece_keys] += dot * scale;
    }
  }
}

// blockIdx = {row, key-value head, piece}. Shared memory, fp32: queries [group, dim], scores [group, piece_keys], sums of values
// [threads, 2].
__global__ void __launch_bounds__(threads) attend_piece(Places places, Pieces pieces, float scale) {
  extern __shared__ float numbers[];
  const int row = static_cast<int>(blockIdx.x);
  const unsigned kv = blockIdx.y;
  const unsigned piece = blockIdx.z;
  const unsigned keys = static_cast<unsigned>(places.positions[row]) + 1;
  const unsigned from = piece * piece_keys;
  if (from >= keys) return;
  const unsigned size = min(piece_keys, keys - from);
  const unsigned sequence = places.sequence_of(row);
  const unsigned group = places.heads.group();
  const unsigned dim = places.heads.dim;
  float* const q = numbers;
  float* const scores = q + group * dim;
  float* const parts = scores + group * piece_keys;
  for (unsigned i = threadIdx.x; i < group * dim; i += threads) q[i] = __bfloat162float(places.q[places.heads.q(row, kv * group) + i]);
  __syncthreads();
  for (unsigned key = threadIdx.x; key < size; key += threads) {
    const bf16* const at = places.keys + places.page_place(sequence, kv, from + key);
    if (places.packs) score<pack_size>(scores + key, q, at, group, dim, scale);
    else score<1>(scores + key, q, at, group, dim, scale);
  }
  __syncthreads();
  // Scores to probabilities, a warp for each head.
  for (unsigned head = threadIdx.x / warp_size; head < group; head += threads / warp_size) {
    const unsigned lane = threadIdx.x % warp_size;
    float* const of_head = scores + head * piece_keys;
    float most = -INFINITY;
    for (unsigned key = lane; key < size; key += warp_size) most = fmaxf(most, of_head[key]);
#pragma unroll
    for (unsigned apart = warp_size / 2; apart > 0; apart /= 2) most = fmaxf(most, __shfl_xor_sync(whole_warp, most, apart));
    float sum = 0;
    for (unsigned key = lane; key < size; key += warp_size) {
      of_head[key] = __expf(of_head[key] - most);
      sum += of_head[key];
    }
    sum = warp_sum(sum);
    if (lane == 0) {
      const std::size_t at = (static_cast<std::size_t>(row) * places.heads.heads + kv * group + head) * pieces.pieces + piece;
      pieces.sums[at] = sum;
      pieces.most[at] = most;
    }
  }
  __syncthreads();
  // Two neighbouring columns a thread; where threads are left they share the keys.
  const unsigned pairs = dim / 2;
  const unsigned shares = threads / pairs;
  const unsigned share = threadIdx.x / pairs;
  const unsigned column = threadIdx.x % pairs * 2;
  for (unsigned head = 0; head < group; ++head) {
    float first = 0;
    float second = 0;
    for (unsigned key = share; share < shares && key < size; key += shares) {
      const float p = scores[head * piece_keys + key];
      const bf16* const value = places.values + places.page_place(sequence, kv, from + key) + column;
      first += p * __bfloat162float(value[0]);
      second += p * __bfloat162float(value[1]);
    }
    parts[threadIdx.x * 2] = first;
    parts[threadIdx.x * 2 + 1] = second;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < dim; i += threads) {
      float sum = 0;
      for (unsigned from_share = 0; from_share < shares; ++from_share) sum += parts[from_share * dim + i];
      pieces.values[((static_cast<std::size_t>(row) * places.heads.heads + kv * group + head) * pieces.pieces + piece) * dim + i] = sum;
    }
    __syncthreads();
  }
}

// blockIdx = {row, head}.
__global__ void __launch_bounds__(threads) put_together(Places places, Pieces pieces) {
  const int row = static_cast<int>(blockIdx.x);
  const unsigned head = blockIdx.y;
  const unsigned dim = places.heads.dim;
  const unsigned count = (static_cast<unsigned>(places.positions[row]) + piece_keys) / piece_keys;
  const std::size_t first = (static_cast<std::size_t>(row) * places.heads.heads + head) * pieces.pieces;
  float most = -INFINITY;
  for (unsigned i = 0; i < count; ++i) most = fmaxf(most, pieces.most[first + i]);
  float whole = 0;
  for (unsigned i = 0; i < count; ++i) whole += pieces.sums[first + i] * __expf(pieces.most[first + i] - most);
  for (unsigned column = threadIdx.x; column < dim; column += threads) {
    float sum = 0;
    for (unsigned i = 0; i < count; ++i) sum += pieces.values[(first + i) * dim + column] * __expf(pieces.most[first + i] - most);
    places.out[places.heads.q(row, head) + column] = __float2bfloat16_rn(sum / whole);
  }
}

Places places_of(const PagedAttention& operation) {
  const HeadShape& shape = operation.shape;
  return {HeadPlaces(shape),
          operation.begins.as<std::int32_t>(),
          operation.positions.as<std::int32_t>(),
          operation.tables.as<std::int32_t>(),
          static_cast<unsigned>(operation.sequences),
          static_cast<unsigned>(operation.table_width),
          static_cast<unsigned>(operation.page_rows),
          bf16_of(operation.out),
          bf16_of(operation.keys),
          bf16_of(operation.values),
          bf16_of(operation.q),
          bf16_of(operation.k),
          bf16_of(operation.qkv),
          can_pack(shape.dim, {operation.q.data, operation.keys.data, operation.values.data})};
}

constexpr const char* what = "attention over pages";

}  // namespace

void CudaDevice::write_pages(const PagedAttention& operation, std::size_t rows) {
  write_rows<<<static_cast<unsigned>(rows), threads, 0, stream()>>>(places_of(operation));
  launched(what);
}

void CudaDevice::attend_pages_of_single_rows(const PagedAttention& operation, std::size_t rows) {
  const HeadShape& shape = operation.shape;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t count = divided_up<std::size_t>(operation.longest, piece_keys);
  const std::size_t found = rows * shape.heads * count;
  float* const memory = scratch(found * (shape.dim + 2));
  if (memory == nullptr) return;
  const Pieces pieces{memory, memory + found * shape.dim, memory + found * (shape.dim + 1), static_cast<unsigned>(count)};
  const std::size_t bytes = (group * shape.dim + group * piece_keys + 2 * threads) * sizeof(float);
  if (!let_share(reinterpret_cast<const void*>(&attend_piece), bytes, what)) return;
  const Places places = places_of(operation);
  const auto grid_rows = static_cast<unsigned>(rows);
  attend_piece<<<dim3(grid_rows, static_cast<unsigned>(shape.kv_heads), pieces.pieces), threads, bytes, stream()>>>(places, pieces, attention_scale(shape));
  put_together<<<dim3(grid_rows, static_cast<unsigned>(shape.heads)), threads, 0, stream()>>>(places, pieces);
  launched(what);
}

void CudaDevice::run(const PagedAttention& operation) {
  const HeadShape& shape = operation.shape;
  const std::size_t rows = operation.positions.count;
  if (rows == 0 || operation.sequences == 0) return;
  if (!can_attend(shape)) return keep(what, attention_limits);
  write_pages(operation, rows);
  if (rows == operation.sequences) return attend_pages_of_single_rows(operation, rows);
  // How many rows the longest part has is for the device to know; no part has more than all.
  const auto tiles = static_cast<unsigned>(divided_up<std::size_t>(std::min(rows, operation.longest), flash::tile_rows));
  const dim3 blocks(static_cast<unsigned>(tiles * operation.sequences), static_cast<unsigned>(shape.heads));
  const auto launch = [&](void (*attend)(Places, unsigned, int, float), std::size_t bytes) {
    if (!let_share(reinterpret_cast<const void*>(attend), bytes, what)) return;
    attend<<<blocks, flash::threads, bytes, stream()>>>(places_of(operation), tiles, static_cast<int>(shape.dim), attention_scale(shape));
    launched(what);
  };
  if (shape.dim <= 64) launch(&flash::attend<64, Places>, flash::shared_bytes<64>());
  else launch(&flash::attend<128, Places>, flash::shared_bytes<128>());
}

}  // namespace outlast::gpu
