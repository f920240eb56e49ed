#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned warps = 8;
constexpr unsigned threads = warps * warp_size;

// What both ways need; queries first, then keys, as in HeadPlace of gpu/cpu/qk_rope.cpp.
struct Heads {
  const bf16* qkv;
  const bf16* q_weight;  // or null
  const bf16* k_weight;
  const std::int32_t* positions;
  const float* cosines;
  const float* sines;
  std::size_t items;  // rows · (heads + kv_heads)
  unsigned heads;
  unsigned kv_heads;
  unsigned half;
};

// One head of one row.
struct Place {
  __device__ Place(const Heads& all, std::size_t item) {
    const std::size_t in_row = all.heads + all.kv_heads;
    const std::size_t row = item / in_row;
    const std::size_t head = item % in_row;
    const std::size_t dim = 2 * std::size_t{all.half};
    is_query = head < all.heads;
    turned = (is_query ? row * all.heads + head : row * all.kv_heads + head - all.heads) * dim;
    qkv = (row * (in_row + all.kv_heads) + head) * dim;
    turn = static_cast<std::size_t>(all.positions[row]) * all.half;
    weight = is_query ? all.q_weight : all.k_weight;
  }
  bool is_query;
  std::size_t turned;  // in q or k
  std::size_t qkv;
  std::size_t turn;    // in cosines and sines
  const bf16* weight;
};

// A warp for each head of each row.
__global__ void __launch_bounds__(threads) forward(Heads all, bf16* q, bf16* k, float* scales, float epsilon) {
  const std::size_t item = std::size_t{blockIdx.x} * warps + threadIdx.x / warp_size;
  if (item >= all.items) return;
  const unsigned lane = threadIdx.x % warp_size;
  const Place at(all, item);
  const bf16* const x = all.qkv + at.qkv;
  float scale = 1;
  if (at.weight != nullptr) {
    float squares = 0;
    for (unsigned i = lane; i < 2 * all.half; i += warp_size) squares += __bfloat162float(x[i]) * __bfloat162float(x[i]);
    scale = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(2 * all.half) + epsilon);
  }
  if (scales != nullptr && lane == 0) scales[item] = scale;
  bf16* const out = (at.is_query ? q : k) + at.turned;
  for (unsigned i = lane; i < all.half; i += warp_size) {
    const float first = __bfloat162float(x[i]) * scale * (at.weight == nullptr ? 1.0F : __bfloat162float(at.weight[i]));
    const float second = __bfloat162float(x[i + all.half]) * scale * (at.weight == nullptr ? 1.0F : __bfloat162float(at.weight[i + all.half]));
    const float cosine = all.cosines[at.turn + i];
    const float sine = all.sines[at.turn + i];
    out[i] = __float2bfloat16_rn(first * cosine - second * sine);
    out[i + all.half] = __float2bfloat16_rn(second * cosine + first * sine);
  }
}

// d_weights: f32 [blocks, 2 · dim], each block's part of q's and of k's; null without norms. Shared memory: [warps, 2 · dim], of which
// a thread has its own numbers until all are added up.
__global__ void __launch_bounds__(threads) backward(Heads all, bf16* d_qkv, float* d_weights, const bf16* d_q, const bf16* d_k, const float* scales) {
  extern __shared__ float sums[];
  const unsigned lane = threadIdx.x % warp_size;
  const unsigned warp = threadIdx.x / warp_size;
  const unsigned dim = 2 * all.half;
  const bool sums_up = d_weights != nullptr;
  float* const own = sums + warp * 2 * dim;
  for (unsigned i = lane; sums_up && i < all.half; i += warp_size) own[i] = own[i + all.half] = own[dim + i] = own[dim + i + all.half] = 0;
  for (std::size_t item = std::size_t{blockIdx.x} * warps + warp; item < all.items; item += std::size_t{gridDim.x} * warps) {
    const Place at(all, item);
    const bf16* const x = all.qkv + at.qkv;
    const bf16* const d_out = (at.is_query ? d_q : d_k) + at.turned;
    bf16* const d_x = d_qkv + at.qkv;
    const float scale = scales == nullptr ? 1.0F : scales[item];
    float dot = 0;
    for (unsigned i = lane; at.weight != nullptr && i < all.half; i += warp_size) {
      const float cosine = all.cosines[at.turn + i];
      const float sine = all.sines[at.turn + i];
      const float d_first = __bfloat162float(d_out[i]);
      const float d_second = __bfloat162float(d_out[i + all.half]);
      dot += __bfloat162float(x[i]) * __bfloat162float(at.weight[i]) * (d_first * cosine + d_second * sine);
      dot += __bfloat162float(x[i + all.half]) * __bfloat162float(at.weight[i + all.half]) * (d_second * cosine - d_first * sine);
    }
    const float along = warp_sum(dot) * scale * scale * scale / static_cast<float>(dim);
    for (unsigned i = lane; i < all.half; i += warp_size) {
      const float cosine = all.cosines[at.turn + i];
      const float sine = all.sines[at.turn + i];
      const float d_first = __bfloat162float(d_out[i]);
      const float d_second = __bfloat162float(d_out[i + all.half]);
      float first = d_first * cosine + d_second * sine;
      float second = d_second * cosine - d_first * sine;
      if (at.weight != nullptr) {
        const float x_first = __bfloat162float(x[i]);
        const float x_second = __bfloat162float(x[i + all.half]);
        if (sums_up) {
          own[(at.is_query ? 0 : dim) + i] += first * x_first * scale;
          own[(at.is_query ? 0 : dim) + i + all.half] += second * x_second * scale;
        }
        first = scale * __bfloat162float(at.weight[i]) * first - x_first * along;
        second = scale * __bfloat162float(at.weight[i + all.half]) * second - x_second * along;
      }
      d_x[i] = __float2bfloat16_rn(first);
      d_x[i + all.half] = __float2bfloat16_rn(second);
    }
  }
  if (!sums_up) return;
  __syncthreads();
  for (unsigned i = threadIdx.x; i < 2 * dim; i += threads) {
    float sum = 0;
    for (unsigned from = 0; from < warps; ++from) sum += sums[from * 2 * dim + i];
    d_weights[std::size_t{blockIdx.x} * 2 * dim + i] = sum;
  }
}

const bf16* or_null(const Array& array) { return array.empty() ? nullptr : bf16_of(array); }

template <class Operation>
Heads heads_of(const Operation& operation) {
  const HeadShape& shape = operation.shape;
  return {bf16_of(operation.qkv),
          or_null(operation.q_weight),
          or_null(operation.k_weight),
          operation.positions.template as<std::int32_t>(),
          operation.cosines.template as<float>(),
          operation.sines.template as<float>(),
          operation.positions.count * (shape.heads + shape.kv_heads),
          static_cast<unsigned>(shape.heads),
          static_cast<unsigned>(shape.kv_heads),
          static_cast<unsigned>(shape.dim / 2)};
}

}  // namespace

void CudaDevice::run(const QkRope& operation) {
  const Heads heads = heads_of(operation);
  if (heads.items == 0) return;
  float* const scales = operation.scale.empty() ? nullptr : operation.scale.as<float>();
  forward<<<static_cast<unsigned>(divided_up<std::size_t>(heads.items, warps)), threads, 0, stream()>>>(heads, bf16_of(operation.q), bf16_of(operation.k), scales, operation.epsilon);
  launched("the rotary embedding");
}

void CudaDevice::run(const QkRopeBackward& operation) {
  const Heads heads = heads_of(operation);
  if (heads.items == 0) return;
  const std::size_t dim = operation.shape.dim;
  const unsigned blocks = blocks_for(divided_up<std::size_t>(heads.items, warps));
  float* d_weights = nullptr;
  if (!operation.d_q_weight.empty() || !operation.d_k_weight.empty()) {
    d_weights = scratch(blocks * 2 * dim);
    if (d_weights == nullptr) return;
  }
  const std::size_t bytes = d_weights == nullptr ? 0 : warps * 2 * dim * sizeof(float);
  if (!let_share(reinterpret_cast<const void*>(&backward), bytes, "the rotary embedding's gradient")) return;
  const float* const scales = operation.scale.empty() ? nullptr : operation.scale.as<float>();
  backward<<<blocks, threads, bytes, stream()>>>(heads, bf16_of(operation.d_qkv), d_weights, bf16_of(operation.d_q), bf16_of(operation.d_k), scales);
  launched("the rotary embedding's gradient");
  if (!operation.d_q_weight.empty()) add_columns(operation.d_q_weight.as<float>(), d_weights, Dtype::f32, blocks, dim, 2 * dim);
  if (!operation.d_k_weight.empty()) add_columns(operation.d_k_weight.as<float>(), d_weights + dim, Dtype::f32, blocks, dim, 2 * dim);
}

}  // namespace outlast::gpu
