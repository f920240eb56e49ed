// Matrix products in fp32, by OpenBLAS.
#pragma once

#include <cstddef>

#include "core/result.hpp"

namespace outlast::gpu {

// A matrix in memory, row-major: rows × columns, `stride` numbers from one row to the next.
struct Matrix {
  float* data = nullptr;
  std::size_t stride = 0;
  [[nodiscard]] Matrix at(std::size_t row, std::size_t column) const { return {data + row * stride + column, stride}; }
};
struct ConstMatrix {
  const float* data = nullptr;
  std::size_t stride = 0;
  ConstMatrix(const float* numbers, std::size_t row_stride) : data(numbers), stride(row_stride) {}
  ConstMatrix(const Matrix& matrix) : data(matrix.data), stride(matrix.stride) {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] ConstMatrix at(std::size_t row, std::size_t column) const { return {data + row * stride + column, stride}; }
};

// Loaded once, for the processor that this is. Any thread, on the calling thread alone.
class Blas {
 public:
  // Errors: device, where the library cannot be loaded, with the package that has it.
  static Result<const Blas*> load();

  // out[m, n] = scale · a · b + keep · out, with a [m, k] and b [k, n]; a `_t` operand lies in memory transposed.
  void product(Matrix out, ConstMatrix a, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep = 0, float scale = 1) const;
  void product_bt(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep = 0, float scale = 1) const;
  void product_at(Matrix out, ConstMatrix a_t, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep = 0, float scale = 1) const;

 private:
  using Gemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  Blas() = default;
  static Result<const Blas*> load_now();

  Gemm gemm_ = nullptr;
};

}  // namespace outlast::gpu
