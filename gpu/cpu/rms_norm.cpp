#include <algorithm>
#include <cmath>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t rows_per_thread_min = 16;

OUTLAST_KERNEL void forward(const RmsNorm& norm, std::size_t begin, std::size_t end) {
  const std::size_t width = norm.width;
  const float* const weight = norm.weight.as<float>();
  for (std::size_t row = begin; row < end; ++row) {
    const float* x = norm.x.as<float>() + row * width;
    if (!norm.delta.empty()) {
      const float* const delta = norm.delta.as<float>() + row * width;
      float* const sum = norm.sum.as<float>() + row * width;
#pragma omp simd
      for (std::size_t i = 0; i < width; ++i) sum[i] = x[i] + delta[i];
      x = sum;
    }
    const float scale = 1.0F / std::sqrt(dot_of(x, x, width) / static_cast<float>(width) + norm.epsilon);
    norm.scale.as<float>()[row] = scale;
    float* const out = norm.out.as<float>() + row * width;
    for (std::size_t i = 0; i < width; ++i) out[i] = x[i] * scale * weight[i];
  }
}

// y = x·s·w, s = (mean(x²) + ε)^−1/2:  dx = s·(w·dy − x·s²·mean(x·w·dy)),  dw += dy·x·s
OUTLAST_KERNEL void backward(const RmsNormBackward& norm, std::size_t begin, std::size_t end, float* d_weight) {
  const std::size_t width = norm.width;
  const float* const weight = norm.weight.as<float>();
  for (std::size_t row = begin; row < end; ++row) {
    const float* const x = norm.x.as<float>() + row * width;
    const float* const d_out = norm.d_out.as<float>() + row * width;
    float* const d_x = norm.d_x.as<float>() + row * width;
    const float scale = norm.scale.as<float>()[row];
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::size_t i = 0; i < width; ++i) dot += x[i] * weight[i] * d_out[i];
    const float along = dot * scale * scale * scale / static_cast<float>(width);
    for (std::size_t i = 0; i < width; ++i) {
      d_x[i] += scale * weight[i] * d_out[i] - x[i] * along;
      d_weight[i] += d_out[i] * x[i] * scale;
    }
  }
}

}  // namespace

void CpuDevice::run(const RmsNorm& operation) {
  const std::size_t rows = operation.out.count / operation.width;
  threads_.for_each(rows, rows_per_thread_min, [&operation](std::size_t begin, std::size_t end, std::size_t) { forward(operation, begin, end); });
}

void CpuDevice::run(const RmsNormBackward& operation) {
  const std::size_t width = operation.width;
  const std::size_t rows = operation.d_x.count / width;
  std::vector<float*> sums(threads_.count(), nullptr);
  for (std::size_t thread = 0; thread < sums.size(); ++thread) {
    sums[thread] = scratch_of(thread, width);
    std::fill_n(sums[thread], width, 0.0F);
  }
  threads_.for_each(rows, rows_per_thread_min, [&operation, &sums](std::size_t begin, std::size_t end, std::size_t thread) {
    backward(operation, begin, end, sums[thread]);
  });
  if (operation.d_weight.empty()) return;
  for (const float* const sum : sums) {
    for (std::size_t i = 0; i < width; ++i) operation.d_weight.as<float>()[i] += sum[i];
  }
}

}  // namespace outlast::gpu
