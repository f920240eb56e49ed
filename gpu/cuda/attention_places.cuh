// Where the heads of a row lie, for the kernels of attention.
#pragma once

#include <cmath>

#include "gpu/cuda/kernel.cuh"
#include "gpu/operations.hpp"

namespace outlast::gpu {

inline constexpr const char* attention_limits = "heads of more than 128 numbers are not supported by this device";

// Kernels are made for heads of up to 128 numbers.
inline bool can_attend(const HeadShape& shape) { return shape.dim <= 128 && shape.dim % 2 == 0; }
inline float attention_scale(const HeadShape& shape) { return 1.0F / std::sqrt(static_cast<float>(shape.dim)); }

struct HeadPlaces {
  explicit HeadPlaces(const HeadShape& shape)
      : heads(static_cast<unsigned>(shape.heads)), kv_heads(static_cast<unsigned>(shape.kv_heads)), dim(static_cast<unsigned>(shape.dim)) {}
  unsigned heads;
  unsigned kv_heads;
  unsigned dim;
  [[nodiscard]] __host__ __device__ unsigned group() const { return heads / kv_heads; }
  [[nodiscard]] __device__ unsigned kv_of(unsigned head) const { return head / group(); }
  [[nodiscard]] __device__ std::size_t q(int row, unsigned head) const { return (static_cast<std::size_t>(row) * heads + head) * dim; }
  [[nodiscard]] __device__ std::size_t k(int row, unsigned kv) const { return (static_cast<std::size_t>(row) * kv_heads + kv) * dim; }
  [[nodiscard]] __device__ std::size_t v(int row, unsigned kv) const { return (static_cast<std::size_t>(row) * (heads + 2 * kv_heads) + heads + kv_heads + kv) * dim; }
};

}  // namespace outlast::gpu
