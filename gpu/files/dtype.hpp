// The number formats of tensors, in files and on devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace outlast::gpu {

enum class Dtype : std::uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, boolean };

constexpr std::size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
    case Dtype::i64: return 8;
    case Dtype::f32:
    case Dtype::i32: return 4;
    case Dtype::f16:
    case Dtype::bf16:
    case Dtype::i16: return 2;
    case Dtype::i8:
    case Dtype::u8:
    case Dtype::boolean: return 1;
  }
  return 0;
}

// As safetensors writes them: "BF16".
std::string_view name_of(Dtype dtype);
std::optional<Dtype> parse_dtype(std::string_view name);

// Round to nearest, ties to even; NaN stays one.
std::uint16_t to_bf16(float value);
inline float from_bf16(std::uint16_t bits) { return __builtin_bit_cast(float, std::uint32_t{bits} << 16); }
float from_f16(std::uint16_t bits);
std::uint16_t to_f16(float value);

}  // namespace outlast::gpu
