#include <algorithm>
#include <cmath>
#include <limits>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/logit_rows.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {

OUTLAST_KERNEL bool all_finite(const float* numbers, std::size_t count) {
  constexpr float most = std::numeric_limits<float>::max();
  std::uint32_t bad = 0;
#pragma omp simd reduction(| : bad)
  for (std::size_t i = 0; i < count; ++i) bad |= (numbers[i] <= most && numbers[i] >= -most) ? 0U : 1U;
  return bad == 0;
}

OUTLAST_KERNEL float largest_of(const float* numbers, std::size_t count) { return max_of(numbers, count); }

OUTLAST_KERNEL float log_sum_of(const float* numbers, std::size_t count, float most) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) sum += exp_of(numbers[i] - most);
  return most + std::log(sum);
}

void CpuDevice::run(const Likeliest& operation) {
  const std::size_t width = operation.width;
  threads_.for_each(operation.tokens.count, 1, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t row = begin; row < end; ++row) {
      const float* const logits = operation.logits.as<float>() + row * width;
      const bool is_good = all_finite(logits, width);
      const float most = largest_of(logits, width);
      operation.tokens.as<std::int32_t>()[row] = is_good ? static_cast<std::int32_t>(std::find(logits, logits + width, most) - logits) : 0;
      operation.log_p.as<float>()[row] = is_good ? most - log_sum_of(logits, width, most) : std::numeric_limits<float>::quiet_NaN();
    }
  });
}

}  // namespace outlast::gpu
