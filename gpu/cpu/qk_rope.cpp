#include <algorithm>
#include <cmath>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t rows_per_thread_min = 16;

// One head of one row: from x, by norm and rotation, to out. Returns the norm's scale.
[[gnu::always_inline]] inline float head_forward(float* out, const float* x, const float* weight, const float* cosines, const float* sines, std::size_t half,
                                                 float epsilon) {
  float scale = 1;
  if (weight != nullptr) scale = 1.0F / std::sqrt(dot_of(x, x, 2 * half) / static_cast<float>(2 * half) + epsilon);
  for (std::size_t i = 0; i < half; ++i) {
    const float first = x[i] * scale * (weight == nullptr ? 1.0F : weight[i]);
    const float second = x[i + half] * scale * (weight == nullptr ? 1.0F : weight[i + half]);
    out[i] = first * cosines[i] - second * sines[i];
    out[i + half] = second * cosines[i] + first * sines[i];
  }
  return scale;
}

// The rotation back, then RmsNorm's backward pass (rms_norm.cpp).
[[gnu::always_inline]] inline void head_backward(float* d_x, float* d_weight, const float* d_out, const float* x, const float* weight, float scale,
                                                 const float* cosines, const float* sines, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    d_x[i] = d_out[i] * cosines[i] + d_out[i + half] * sines[i];
    d_x[i + half] = d_out[i + half] * cosines[i] - d_out[i] * sines[i];
  }
  if (weight == nullptr) return;
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::size_t i = 0; i < 2 * half; ++i) dot += x[i] * weight[i] * d_x[i];
  const float along = dot * scale * scale * scale / static_cast<float>(2 * half);
  for (std::size_t i = 0; i < 2 * half; ++i) {
    d_weight[i] += d_x[i] * x[i] * scale;
    d_x[i] = scale * weight[i] * d_x[i] - x[i] * along;
  }
}

const float* or_null(const Array& array) { return array.empty() ? nullptr : array.as<float>(); }

// Where one head of one row lies; the first `heads` are queries, the others keys.
struct HeadPlace {
  bool is_query;
  std::size_t turned;  // in q or k
  std::size_t qkv;
  std::size_t scale;
};
[[gnu::always_inline]] inline HeadPlace place_of(const HeadShape& shape, std::size_t row, std::size_t head) {
  const bool is_query = head < shape.heads;
  const std::size_t turned = is_query ? row * shape.heads + head : row * shape.kv_heads + head - shape.heads;
  return {is_query, turned * shape.dim, row * shape.qkv_width() + head * shape.dim, row * (shape.heads + shape.kv_heads) + head};
}

OUTLAST_KERNEL void forward(const QkRope& operation, std::size_t begin, std::size_t end) {
  const HeadShape& shape = operation.shape;
  const std::size_t half = shape.dim / 2;
  for (std::size_t row = begin; row < end; ++row) {
    const std::size_t turn = static_cast<std::size_t>(operation.positions.as<std::int32_t>()[row]) * half;
    for (std::size_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
      const HeadPlace at = place_of(shape, row, head);
      const float scale = head_forward((at.is_query ? operation.q : operation.k).as<float>() + at.turned, operation.qkv.as<float>() + at.qkv,
                                       or_null(at.is_query ? operation.q_weight : operation.k_weight), operation.cosines.as<float>() + turn,
                                       operation.sines.as<float>() + turn, half, operation.epsilon);
      if (!operation.scale.empty()) operation.scale.as<float>()[at.scale] = scale;
    }
  }
}

// d_weights: of q, then of k.
OUTLAST_KERNEL void backward(const QkRopeBackward& operation, std::size_t begin, std::size_t end, float* d_weights) {
  const HeadShape& shape = operation.shape;
  const std::size_t half = shape.dim / 2;
  for (std::size_t row = begin; row < end; ++row) {
    const std::size_t turn = static_cast<std::size_t>(operation.positions.as<std::int32_t>()[row]) * half;
    for (std::size_t head = 0; head < shape.heads + shape.kv_heads; ++head) {
      const HeadPlace at = place_of(shape, row, head);
      const float scale = operation.scale.empty() ? 1.0F : operation.scale.as<float>()[at.scale];
      head_backward(operation.d_qkv.as<float>() + at.qkv, d_weights + (at.is_query ? 0 : shape.dim),
                    (at.is_query ? operation.d_q : operation.d_k).as<float>() + at.turned, operation.qkv.as<float>() + at.qkv,
                    or_null(at.is_query ? operation.q_weight : operation.k_weight), scale, operation.cosines.as<float>() + turn,
                    operation.sines.as<float>() + turn, half);
    }
  }
}

}  // namespace

void CpuDevice::run(const QkRope& operation) {
  threads_.for_each(operation.positions.count, rows_per_thread_min,
                    [&operation](std::size_t begin, std::size_t end, std::size_t) { forward(operation, begin, end); });
}

void CpuDevice::run(const QkRopeBackward& operation) {
  const std::size_t dim = operation.shape.dim;
  std::vector<float*> sums(threads_.count(), nullptr);
  for (std::size_t thread = 0; thread < sums.size(); ++thread) {
    sums[thread] = scratch_of(thread, 2 * dim);
    std::fill_n(sums[thread], 2 * dim, 0.0F);
  }
  threads_.for_each(operation.positions.count, rows_per_thread_min, [&operation, &sums](std::size_t begin, std::size_t end, std::size_t thread) {
    backward(operation, begin, end, sums[thread]);
  });
  for (const float* const sum : sums) {
    for (std::size_t i = 0; i < dim; ++i) {
      if (!operation.d_q_weight.empty()) operation.d_q_weight.as<float>()[i] += sum[i];
      if (!operation.d_k_weight.empty()) operation.d_k_weight.as<float>()[i] += sum[dim + i];
    }
  }
}

}  // namespace outlast::gpu
