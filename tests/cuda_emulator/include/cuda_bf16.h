// Numbers in bf16 (the upper half of an fp32 number), for the emulator.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x;
  __nv_bfloat16 y;
};

inline float __bfloat162float(__nv_bfloat16 number) { return std::bit_cast<float>(std::uint32_t{number.bits} << 16); }

// To the nearest, and to the even one of two that are as near.
inline __nv_bfloat16 __float2bfloat16_rn(float number) {
  if (std::isnan(number)) return {0x7FFF};
  const auto bits = std::bit_cast<std::uint32_t>(number);
  return {static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)}; }
