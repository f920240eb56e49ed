#include <cmath>

#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned threads = 256;

struct Step {
  float rate;
  float beta1;
  float beta2;
  float epsilon;
  float keep;         // 1 − rate · decay
  float correction1;  // 1 / (1 − β1^step)
  float correction2;
  float gradient_scale;
};

__global__ void update(float* weights, bf16* working, const float* gradient, float* first, float* second, std::size_t count, Step step) {
  const std::size_t apart = std::size_t{gridDim.x} * threads;
  for (std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x; i < count; i += apart) {
    const float g = gradient[i] * step.gradient_scale;
    const float m = step.beta1 * first[i] + (1.0F - step.beta1) * g;
    const float v = step.beta2 * second[i] + (1.0F - step.beta2) * g * g;
    first[i] = m;
    second[i] = v;
    const float weight = weights[i] * step.keep - step.rate * (m * step.correction1) / (sqrtf(v * step.correction2) + step.epsilon);
    weights[i] = weight;
    if (working != nullptr) working[i] = __float2bfloat16_rn(weight);
  }
}

__global__ void __launch_bounds__(threads) squares(float* sums, const float* numbers, std::size_t count) {
  const std::size_t apart = std::size_t{gridDim.x} * threads;
  float sum = 0;
  for (std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x; i < count; i += apart) sum += numbers[i] * numbers[i];
  const float whole = block_sum<threads>(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = whole;
}

__global__ void __launch_bounds__(threads) add_up(float* to, const float* sums, unsigned count) {
  float sum = 0;
  for (unsigned i = threadIdx.x; i < count; i += threads) sum += sums[i];
  const float whole = block_sum<threads>(sum);
  if (threadIdx.x == 0) *to += whole;
}

}  // namespace

void CudaDevice::run(const AdamW& operation) {
  const std::size_t count = operation.weights.count;
  if (count == 0) return;
  const auto power = [&operation](float beta) { return 1.0 - std::pow(static_cast<double>(beta), static_cast<double>(operation.step)); };
  const Step step{operation.rate,
                  operation.beta1,
                  operation.beta2,
                  operation.epsilon,
                  1.0F - operation.rate * operation.decay,
                  static_cast<float>(1.0 / power(operation.beta1)),
                  static_cast<float>(1.0 / power(operation.beta2)),
                  operation.gradient_scale};
  bf16* const working = operation.working.empty() ? nullptr : bf16_of(operation.working);
  update<<<blocks_for(divided_up<std::size_t>(count, threads)), threads, 0, stream()>>>(operation.weights.as<float>(), working, operation.gradient.as<float>(),
                                                                                        operation.first.as<float>(), operation.second.as<float>(), count, step);
  launched("AdamW");
}

void CudaDevice::add_square_sum(const Array& sum, const Array& numbers) {
  if (numbers.empty()) return;
  const unsigned blocks = blocks_for(divided_up<std::size_t>(numbers.count, threads));
  float* const sums = scratch(blocks);
  if (sums == nullptr) return;
  squares<<<blocks, threads, 0, stream()>>>(sums, numbers.as<float>(), numbers.count);
  add_up<<<1, threads, 0, stream()>>>(sum.as<float>(), sums, blocks);
  launched("a sum of squares");
}

}  // namespace outlast::gpu
