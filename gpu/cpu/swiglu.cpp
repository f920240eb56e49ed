#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t rows_per_thread_min = 8;

OUTLAST_KERNEL void forward(const SwiGlu& operation, std::size_t begin, std::size_t end) {
  const std::size_t width = operation.width;
  for (std::size_t row = begin; row < end; ++row) {
    const float* const gate = operation.gate_up.as<float>() + row * 2 * width;
    const float* const up = gate + width;
    float* const out = operation.out.as<float>() + row * width;
    for (std::size_t i = 0; i < width; ++i) out[i] = gate[i] / (1.0F + exp_of(-gate[i])) * up[i];
  }
}

// With s = 1 / (1 + e^−g): d_gate = d·up·s·(1 + g·(1 − s)), d_up = d·g·s
OUTLAST_KERNEL void backward(const SwiGluBackward& operation, std::size_t begin, std::size_t end) {
  const std::size_t width = operation.width;
  for (std::size_t row = begin; row < end; ++row) {
    const float* const gate = operation.gate_up.as<float>() + row * 2 * width;
    const float* const up = gate + width;
    const float* const d_out = operation.d_out.as<float>() + row * width;
    float* const d_gate = operation.d_gate_up.as<float>() + row * 2 * width;
    float* const d_up = d_gate + width;
#pragma omp simd
    for (std::size_t i = 0; i < width; ++i) {
      const float g = gate[i];
      const float s = 1.0F / (1.0F + exp_of(-g));
      const float d = d_out[i];
      const float u = up[i];
      d_gate[i] = d * u * s * (1.0F + g * (1.0F - s));
      d_up[i] = d * g * s;
    }
  }
}

}  // namespace

void CpuDevice::run(const SwiGlu& operation) {
  const std::size_t rows = operation.out.count / operation.width;
  threads_.for_each(rows, rows_per_thread_min, [&operation](std::size_t begin, std::size_t end, std::size_t) { forward(operation, begin, end); });
}

void CpuDevice::run(const SwiGluBackward& operation) {
  const std::size_t rows = operation.d_out.count / operation.width;
  threads_.for_each(rows, rows_per_thread_min, [&operation](std::size_t begin, std::size_t end, std::size_t) { backward(operation, begin, end); });
}

}  // namespace outlast::gpu
