#include "gpu/files/dtype.hpp"

#include <array>
#include <cmath>
#include <utility>

namespace outlast::gpu {
namespace {

constexpr std::array<std::pair<Dtype, std::string_view>, 10> names{{{Dtype::f64, "F64"}, {Dtype::f32, "F32"}, {Dtype::f16, "F16"},
                                                                    {Dtype::bf16, "BF16"}, {Dtype::i64, "I64"}, {Dtype::i32, "I32"},
                                                                    {Dtype::i16, "I16"}, {Dtype::i8, "I8"}, {Dtype::u8, "U8"},
                                                                    {Dtype::boolean, "BOOL"}}};

}  // namespace

std::string_view name_of(Dtype dtype) {
  for (const auto& [one, name] : names) {
    if (one == dtype) return name;
  }
  return {};
}

std::optional<Dtype> parse_dtype(std::string_view name) {
  for (const auto& [dtype, known] : names) {
    if (known == name) return dtype;
  }
  return std::nullopt;
}

std::uint16_t to_bf16(float value) {
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7FFF'FFFFU) > 0x7F80'0000U) return static_cast<std::uint16_t>(bits >> 16 | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16);
}

// In integers: not every compiler has a half float.
std::uint16_t to_f16(float value) {
  constexpr std::uint32_t infinity = 0x7F80'0000U;
  constexpr std::uint32_t beyond = 0x477F'F000U;  // 65,520: from here on it rounds to infinity
  constexpr std::uint32_t normal = 0x3880'0000U;  // 2^-14
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFF'FFFFU;
  if (magnitude > infinity) return static_cast<std::uint16_t>(sign | 0x7E00U | (magnitude >> 13 & 0x3FFU));
  if (magnitude >= beyond) return static_cast<std::uint16_t>(sign | 0x7C00U);
  if (magnitude >= normal) {
    const std::uint32_t rounded = magnitude + 0xFFFU + (magnitude >> 13 & 1U);
    return static_cast<std::uint16_t>(sign | (rounded - 0x3800'0000U) >> 13);
  }
  return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::nearbyint(__builtin_bit_cast(float, magnitude) * 0x1p24F)));
}

float from_f16(std::uint16_t bits) {
  const std::uint32_t sign = std::uint32_t{bits & 0x8000U} << 16;
  const std::uint32_t exponent = bits >> 10 & 0x1FU;
  std::uint32_t mantissa = bits & 0x3FFU;
  if (exponent == 0x1F) return __builtin_bit_cast(float, sign | 0x7F80'0000U | mantissa << 13);
  if (exponent != 0) return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | mantissa << 13);
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return sign != 0 ? -magnitude : magnitude;
}

}  // namespace outlast::gpu
