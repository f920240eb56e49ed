#include "gpu/cpu/few_rows.hpp"

#include <algorithm>

#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

// Columns whose weights are read side by side: as many streams, and each row's numbers are read once for all.
constexpr std::size_t columns = 4;

// Eight or sixteen numbers in a register, wherever they lie in memory.
template <std::size_t Lanes>
struct Vector {
  using Type [[gnu::vector_size(Lanes * sizeof(float)), gnu::aligned(alignof(float)), gnu::may_alias]] = float;
};

using Four = Vector<4>::Type;

// The two halves of a vector, one upon the other.
[[gnu::always_inline]] inline Four folded(const Vector<8>::Type& v) {
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
}
[[gnu::always_inline]] inline Four folded(const Vector<16>::Type& v) {
  const Vector<8>::Type half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return folded(half);
}
// The sums over the lanes of four vectors.
template <class Wide>
[[gnu::always_inline]] inline Four sums_of(const Wide (&v)[columns]) {
  const Four a = folded(v[0]);
  const Four b = folded(v[1]);
  const Four c = folded(v[2]);
  const Four d = folded(v[3]);
  const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

// `Rows` rows times `columns` columns.
template <std::size_t Lanes, std::size_t Rows>
[[gnu::always_inline]] inline void tile(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t k) {
  using Wide = typename Vector<Lanes>::Type;
  Wide sums[Rows][columns] = {};
  std::size_t i = 0;
  for (; i + Lanes <= k; i += Lanes) {
    for (std::size_t column = 0; column < columns; ++column) {
      const Wide weight = *reinterpret_cast<const Wide*>(b_t.data + column * b_t.stride + i);
      for (std::size_t row = 0; row < Rows; ++row) sums[row][column] += weight * *reinterpret_cast<const Wide*>(a.data + row * a.stride + i);
    }
  }
  for (std::size_t row = 0; row < Rows; ++row) {
    float* const to = out.data + row * out.stride;
    *reinterpret_cast<Four*>(to) = sums_of(sums[row]);
    for (std::size_t rest = i; rest < k; ++rest) {
      for (std::size_t column = 0; column < columns; ++column) to[column] += a.data[row * a.stride + rest] * b_t.data[column * b_t.stride + rest];
    }
  }
}

template <std::size_t Lanes>
[[gnu::always_inline]] inline void product(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k) {
  // As many sums as the registers hold, with what they are made of.
  constexpr std::size_t rows = Lanes == 16 ? 4 : 2;
  std::size_t column = 0;
  for (; column + columns <= n; column += columns) {
    std::size_t row = 0;
    for (; row + rows <= m; row += rows) tile<Lanes, rows>(out.at(row, column), a.at(row, 0), b_t.at(column, 0), k);
    for (; row < m; ++row) tile<Lanes, 1>(out.at(row, column), a.at(row, 0), b_t.at(column, 0), k);
  }
  for (; column < n; ++column) {
    for (std::size_t row = 0; row < m; ++row) out.at(row, column).data[0] = dot_of(a.at(row, 0).data, b_t.at(column, 0).data, k);
  }
}

// Sixteen lanes, and thirty-two registers, where there are such.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
[[gnu::target("arch=x86-64-v4")]] void product_of_16(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k) {
  product<16>(out, a, b_t, m, n, k);
}
bool has_16() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"); }
#else
void product_of_16(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k) { product<8>(out, a, b_t, m, n, k); }
bool has_16() { return false; }
#endif
OUTLAST_KERNEL void product_of_8(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k) { product<8>(out, a, b_t, m, n, k); }

}  // namespace

void few_rows_product(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k) {
  static const bool wide = has_16();
  if (wide) product_of_16(out, a, b_t, m, n, k);
  else product_of_8(out, a, b_t, m, n, k);
}

}  // namespace outlast::gpu
