#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned threads = 256;

struct Forward {
  bf16* out;
  float* scale;
  const bf16* x;
  const bf16* delta;  // or null
  bf16* sum;          // may be x
  const bf16* weight;
  std::size_t width;
  float epsilon;
};

// A block for each row; each thread reads again only what it wrote.
template <int size>
__global__ void __launch_bounds__(threads) forward(Forward norm) {
  const std::size_t row = blockIdx.x * norm.width;
  float squares = 0;
  for (std::size_t i = threadIdx.x * size; i < norm.width; i += threads * size) {
    float x[size];
    load(x, norm.x + row + i);
    if (norm.delta != nullptr) {
      float delta[size];
      load(delta, norm.delta + row + i);
#pragma unroll
      for (int at = 0; at < size; ++at) x[at] = __bfloat162float(__float2bfloat16_rn(x[at] + delta[at]));
      store(norm.sum + row + i, x);
    }
#pragma unroll
    for (int at = 0; at < size; ++at) squares += x[at] * x[at];
  }
  const float scale = 1.0F / sqrtf(block_sum<threads>(squares) / static_cast<float>(norm.width) + norm.epsilon);
  if (threadIdx.x == 0) norm.scale[blockIdx.x] = scale;
  const bf16* const x_now = norm.delta != nullptr ? norm.sum : norm.x;
  for (std::size_t i = threadIdx.x * size; i < norm.width; i += threads * size) {
    float x[size];
    float weight[size];
    load(x, x_now + row + i);
    load(weight, norm.weight + i);
#pragma unroll
    for (int at = 0; at < size; ++at) x[at] = x[at] * scale * weight[at];
    store(norm.out + row + i, x);
  }
}

struct Backward {
  bf16* d_x;
  float* d_weights;  // f32 [blocks, width]: each block's part, or null
  const bf16* d_out;
  const bf16* x;
  const float* scale;
  const bf16* weight;
  std::size_t rows;
  std::size_t width;
};

// As the CPU's (gpu/cpu/rms_norm.cpp). A block has every gridDim.x-th row; a thread's columns of d_weights are its own.
template <int size>
__global__ void __launch_bounds__(threads) backward(Backward norm) {
  float* const d_weight = norm.d_weights == nullptr ? nullptr : norm.d_weights + blockIdx.x * norm.width;
  if (d_weight != nullptr) {
    for (std::size_t i = threadIdx.x * size; i < norm.width; i += threads * size) {
#pragma unroll
      for (int at = 0; at < size; ++at) d_weight[i + at] = 0;
    }
  }
  for (std::size_t number = blockIdx.x; number < norm.rows; number += gridDim.x) {
    const std::size_t row = number * norm.width;
    const float scale = norm.scale[number];
    float dot = 0;
    for (std::size_t i = threadIdx.x * size; i < norm.width; i += threads * size) {
      float x[size];
      float weight[size];
      float d_out[size];
      load(x, norm.x + row + i);
      load(weight, norm.weight + i);
      load(d_out, norm.d_out + row + i);
#pragma unroll
      for (int at = 0; at < size; ++at) dot += x[at] * weight[at] * d_out[at];
    }
    const float along = block_sum<threads>(dot) * scale * scale * scale / static_cast<float>(norm.width);
    for (std::size_t i = threadIdx.x * size; i < norm.width; i += threads * size) {
      float x[size];
      float weight[size];
      float d_out[size];
      float d_x[size];
      load(x, norm.x + row + i);
      load(weight, norm.weight + i);
      load(d_out, norm.d_out + row + i);
      load(d_x, norm.d_x + row + i);
#pragma unroll
      for (int at = 0; at < size; ++at) {
        d_x[at] += scale * weight[at] * d_out[at] - x[at] * along;
        if (d_weight != nullptr) d_weight[i + at] += d_out[at] * x[at] * scale;
      }
      store(norm.d_x + row + i, d_x);
    }
  }
}

}  // namespace

void CudaDevice::run(const RmsNorm& operation) {
  const std::size_t rows = operation.out.count / operation.width;
  if (rows == 0) return;
  const bool adds = !operation.delta.empty();
  const Forward norm{bf16_of(operation.out), operation.scale.as<float>(), bf16_of(operation.x), adds ? bf16_of(operation.delta) : nullptr,
                     adds ? bf16_of(operation.sum) : nullptr, bf16_of(operation.weight), operation.width, operation.epsilon};
  if (can_pack(operation.width, {norm.out, norm.x, norm.delta, norm.sum, norm.weight})) forward<pack_size><<<static_cast<unsigned>(rows), threads, 0, stream()>>>(norm);
  else forward<1><<<static_cast<unsigned>(rows), threads, 0, stream()>>>(norm);
  launched("RMSNorm");
}

void CudaDevice::run(const RmsNormBackward& operation) {
  const std::size_t width = operation.width;
  const std::size_t rows = operation.d_x.count / width;
  if (rows == 0) return;
  const unsigned blocks = blocks_for(rows);
  float* d_weights = nullptr;
  if (!operation.d_weight.empty()) {
    d_weights = scratch(blocks * width);
    if (d_weights == nullptr) return;
  }
  const Backward norm{bf16_of(operation.d_x), d_weights, bf16_of(operation.d_out), bf16_of(operation.x), operation.scale.as<float>(), bf16_of(operation.weight), rows, width};
  if (can_pack(width, {norm.d_x, norm.d_out, norm.x, norm.weight})) backward<pack_size><<<blocks, threads, 0, stream()>>>(norm);
  else backward<1><<<blocks, threads, 0, stream()>>>(norm);
  launched("RMSNorm's gradient");
  if (d_weights != nullptr) add_columns(operation.d_weight.as<float>(), d_weights, Dtype::f32, blocks, width, width);
}

}  // namespace outlast::gpu
