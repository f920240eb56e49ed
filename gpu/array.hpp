// Array: a view of numbers in a device's memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "core/check.hpp"
#include "gpu/files/dtype.hpp"

namespace outlast::gpu {

template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  else if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  else if constexpr (std::is_same_v<T, std::int32_t>) return Dtype::i32;
  else if constexpr (std::is_same_v<T, std::uint16_t>) return Dtype::bf16;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return Dtype::u8;
  else static_assert(!sizeof(T), "no array has such numbers");
}

// Row-major; its shape is its user's to know. A value: whoever made the Memory behind it keeps that alive.
struct Array {
  void* data = nullptr;
  std::size_t count = 0;
  Dtype dtype = Dtype::f32;

  [[nodiscard]] bool empty() const { return count == 0; }
  [[nodiscard]] std::size_t bytes() const { return count * size_of(dtype); }
  [[nodiscard]] Array part(std::size_t from, std::size_t size) const {
    check(from + size <= count && from + size >= from, "a part of an array is within it");
    return {static_cast<std::byte*>(data) + from * size_of(dtype), size, dtype};
  }
  // The numbers themselves; of an array that the caller's processor can read.
  template <class T>
  [[nodiscard]] T* as() const {
    check(dtype == dtype_of<T>() || count == 0, "an array is read as what it holds");
    return static_cast<T*>(data);
  }
};

}  // namespace outlast::gpu
