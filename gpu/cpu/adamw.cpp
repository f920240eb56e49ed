#include <algorithm>

#include <cmath>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t numbers_per_thread_min = 16'384;
constexpr std::size_t squares_at_once = 4'096;  // sums of floats that long stay exact enough; theirs are doubles

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

OUTLAST_KERNEL void update(float* weights, const float* gradient, float* first, float* second, std::size_t count, const Step& step) {
  for (std::size_t i = 0; i < count; ++i) {
    const float g = gradient[i] * step.gradient_scale;
    const float m = step.beta1 * first[i] + (1.0F - step.beta1) * g;
    const float v = step.beta2 * second[i] + (1.0F - step.beta2) * g * g;
    first[i] = m;
    second[i] = v;
    weights[i] = weights[i] * step.keep - step.rate * (m * step.correction1) / (std::sqrt(v * step.correction2) + step.epsilon);
  }
}

OUTLAST_KERNEL float squares_of(const float* numbers, std::size_t count) { return dot_of(numbers, numbers, count); }

}  // namespace

void CpuDevice::run(const AdamW& operation) {
  check(operation.working.empty() || operation.working.data == operation.weights.data, "a CPU works with the master copy");
  const auto power = [&operation](float beta) { return 1.0 - std::pow(static_cast<double>(beta), static_cast<double>(operation.step)); };
  const Step step{operation.rate,
                  operation.beta1,
                  operation.beta2,
                  operation.epsilon,
                  1.0F - operation.rate * operation.decay,
                  static_cast<float>(1.0 / power(operation.beta1)),
                  static_cast<float>(1.0 / power(operation.beta2)),
                  operation.gradient_scale};
  threads_.for_each(operation.weights.count, numbers_per_thread_min, [&operation, &step](std::size_t begin, std::size_t end, std::size_t) {
    update(operation.weights.as<float>() + begin, operation.gradient.as<float>() + begin, operation.first.as<float>() + begin,
           operation.second.as<float>() + begin, end - begin, step);
  });
}

void CpuDevice::add_square_sum(const Array& sum, const Array& numbers) {
  std::vector<double> sums(threads_.count(), 0);
  threads_.for_each(numbers.count, numbers_per_thread_min, [&numbers, &sums](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t at = begin; at < end; at += squares_at_once) {
      sums[thread] += static_cast<double>(squares_of(numbers.as<float>() + at, std::min(squares_at_once, end - at)));
    }
  });
  double whole = 0;
  for (const double part : sums) whole += part;
  sum.as<float>()[0] += static_cast<float>(whole);
}

}  // namespace outlast::gpu
