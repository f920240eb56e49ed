// A matrix product of few rows: bound by reading the weights, which a library's product would first copy into another order.
#pragma once

#include <cstddef>

#include "gpu/cpu/blas.hpp"

namespace outlast::gpu {

inline constexpr std::size_t few_rows_max = 16;

// out[m, n] = a · b_tᵀ, with a [m, k] and b_t [n, k]. On the calling thread.
void few_rows_product(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k);

}  // namespace outlast::gpu
