// Loops over floats that the compiler turns into vector instructions, for each kind of processor that it may run on.
#pragma once

#include <cstddef>
#include <cstdint>

// On a kernel, a free function whose loops are worth it: one copy per instruction set, chosen when the program starts.
// (Sanitizers' runtimes are not there yet when it chooses.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define OUTLAST_KERNEL __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define OUTLAST_KERNEL
#endif

namespace outlast::gpu {

// e^x to 2 units in the last place, by 2^n · e^r with |r| ≤ ln2 / 2 and a polynomial for e^r (Cephes); 0 below −87.3, and the
// largest numbers above 88.3.
[[gnu::always_inline]] inline float exp_of(float x) {
  constexpr float log2_e = 1.44269504F;
  constexpr float ln2_high = 0.693359375F;
  constexpr float ln2_low = -2.12194440e-4F;
  constexpr float round = 12582912.0F;  // 1.5 · 2^23: adding it leaves whole numbers
  const float clamped = x < -87.3F ? -87.3F : (x > 88.3F ? 88.3F : x);
  const float n = (clamped * log2_e + round) - round;
  const float r = clamped - n * ln2_high - n * ln2_low;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const auto bits = static_cast<std::uint32_t>(static_cast<std::int32_t>(n) + 127) << 23;
  const float power = __builtin_bit_cast(float, bits);
  return x < -87.3F ? 0.0F : p * power;
}

[[gnu::always_inline]] inline float dot_of(const float* a, const float* b, std::size_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

[[gnu::always_inline]] inline float sum_of(const float* a, std::size_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) sum += a[i];
  return sum;
}

[[gnu::always_inline]] inline float max_of(const float* a, std::size_t count) {
  float most = a[0];
#pragma omp simd reduction(max : most)
  for (std::size_t i = 0; i < count; ++i) most = a[i] > most ? a[i] : most;
  return most;
}

}  // namespace outlast::gpu
