#include <algorithm>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/few_rows.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

// Below that many multiplications a second thread costs more than it brings.
constexpr std::size_t products_per_thread_min = 32'768;
constexpr std::size_t tile = 16;  // cuts are at multiples, which suits the kernels

std::size_t tiles(std::size_t size) { return (size + tile - 1) / tile; }

OUTLAST_KERNEL void add_rows(float* out, const float* bias, std::size_t rows, std::size_t width) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < width; ++i) out[row * width + i] += bias[i];
  }
}

OUTLAST_KERNEL void add_columns(float* sums, const float* numbers, std::size_t rows, std::size_t stride, std::size_t begin, std::size_t end) {
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = begin; i < end; ++i) sums[i] += numbers[row * stride + i];
  }
}

}  // namespace

// Cuts the longer side of an output of m rows and n columns among the threads: `part(rows, columns)`.
template <class Part>
void CpuDevice::cut(std::size_t m, std::size_t n, std::size_t k, const Part& part) {
  const bool by_rows = m >= n;
  const Range whole_rows{0, m};
  const Range whole_columns{0, n};
  const std::size_t side = by_rows ? m : n;
  const std::size_t products_per_tile = std::max<std::size_t>(1, (by_rows ? n : m) * k * tile);
  threads_.for_each(tiles(side), products_per_thread_min / products_per_tile, [&](std::size_t begin, std::size_t end, std::size_t) {
    const Range cut{begin * tile, std::min(end * tile, side) - begin * tile};
    part(by_rows ? cut : whole_rows, by_rows ? whole_columns : cut);
  });
}

void CpuDevice::product(Matrix out, ConstMatrix a, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  cut(m, n, k, [&](Range rows, Range columns) {
    blas_.product(out.at(rows.from, columns.from), a.at(rows.from, 0), b.at(0, columns.from), rows.size, columns.size, k, keep);
  });
}

void CpuDevice::product_bt(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep) {
  cut(m, n, k, [&](Range rows, Range columns) {
    if (m <= few_rows_max && keep == 0) few_rows_product(out.at(rows.from, columns.from), a.at(rows.from, 0), b_t.at(columns.from, 0), rows.size, columns.size, k);
    else blas_.product_bt(out.at(rows.from, columns.from), a.at(rows.from, 0), b_t.at(columns.from, 0), rows.size, columns.size, k, keep);
  });
}

void CpuDevice::product_at(Matrix out, ConstMatrix a_t, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  cut(m, n, k, [&](Range rows, Range columns) {
    blas_.product_at(out.at(rows.from, columns.from), a_t.at(0, rows.from), b.at(0, columns.from), rows.size, columns.size, k, keep);
  });
}

void CpuDevice::run(const Linear& operation) {
  const std::size_t rows = operation.out.count / operation.outputs;
  float* const out = operation.out.as<float>();
  product_bt({out, operation.outputs}, {operation.x.as<float>(), operation.inputs}, {operation.weight.as<float>(), operation.inputs}, rows,
             operation.outputs, operation.inputs, 0);
  if (!operation.bias.empty()) add_rows(out, operation.bias.as<float>(), rows, operation.outputs);
}

void CpuDevice::run(const LinearBackward& operation) {
  const std::size_t inputs = operation.inputs;
  const std::size_t outputs = operation.outputs;
  const std::size_t rows = operation.d_out.count / outputs;
  const float* const d_out = operation.d_out.as<float>();
  if (!operation.d_x.empty()) {
    product({operation.d_x.as<float>(), inputs}, {d_out, outputs}, {operation.weight.as<float>(), inputs}, rows, inputs, outputs, 0);
  }
  if (!operation.d_weight.empty()) {
    product_at({operation.d_weight.as<float>(), inputs}, {d_out, outputs}, {operation.x.as<float>(), inputs}, outputs, inputs, rows, 1);
  }
  if (!operation.d_bias.empty()) {
    threads_.for_each(outputs, tile, [&](std::size_t begin, std::size_t end, std::size_t) {
      add_columns(operation.d_bias.as<float>(), d_out, rows, outputs, begin, end);
    });
  }
}

}  // namespace outlast::gpu
