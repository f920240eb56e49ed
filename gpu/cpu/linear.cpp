#include <algorithm>

#include "gpu/cpu/cpu_device.hpp"
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

// One row times a matrix is bound by memory: a dot product for each row of the weights.
OUTLAST_KERNEL void row_times(float* out, const float* x, const float* weight, std::size_t inputs, std::size_t begin, std::size_t end) {
  for (std::size_t o = begin; o < end; ++o) out[o] = dot_of(x, weight + o * inputs, inputs);
}

}  // namespace

// Cuts the longer side of the output among the threads.
void CpuDevice::product(Matrix out, ConstMatrix a, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  const bool by_rows = m >= n;
  const std::size_t side = by_rows ? m : n;
  const std::size_t grain = std::max<std::size_t>(1, products_per_thread_min / std::max<std::size_t>(1, (by_rows ? n : m) * k * tile));
  threads_.for_each(tiles(side), grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    const std::size_t from = begin * tile;
    const std::size_t size = std::min(end * tile, side) - from;
    if (by_rows) blas_.product({out.data + from * out.stride, out.stride}, {a.data + from * a.stride, a.stride}, b, size, n, k, keep);
    else blas_.product({out.data + from, out.stride}, a, {b.data + from, b.stride}, m, size, k, keep);
  });
}

void CpuDevice::product_bt(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep) {
  const bool by_rows = m >= n;
  const std::size_t side = by_rows ? m : n;
  const std::size_t grain = std::max<std::size_t>(1, products_per_thread_min / std::max<std::size_t>(1, (by_rows ? n : m) * k * tile));
  threads_.for_each(tiles(side), grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    const std::size_t from = begin * tile;
    const std::size_t size = std::min(end * tile, side) - from;
    if (m == 1 && keep == 0) row_times(out.data, a.data, b_t.data, k, from, from + size);
    else if (by_rows) blas_.product_bt({out.data + from * out.stride, out.stride}, {a.data + from * a.stride, a.stride}, b_t, size, n, k, keep);
    else blas_.product_bt({out.data + from, out.stride}, a, {b_t.data + from * b_t.stride, b_t.stride}, m, size, k, keep);
  });
}

void CpuDevice::product_at(Matrix out, ConstMatrix a_t, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  const bool by_rows = m >= n;
  const std::size_t side = by_rows ? m : n;
  const std::size_t grain = std::max<std::size_t>(1, products_per_thread_min / std::max<std::size_t>(1, (by_rows ? n : m) * k * tile));
  threads_.for_each(tiles(side), grain, [&](std::size_t begin, std::size_t end, std::size_t) {
    const std::size_t from = begin * tile;
    const std::size_t size = std::min(end * tile, side) - from;
    if (by_rows) blas_.product_at({out.data + from * out.stride, out.stride}, {a_t.data + from, a_t.stride}, b, size, n, k, keep);
    else blas_.product_at({out.data + from, out.stride}, a_t, {b.data + from, b.stride}, m, size, k, keep);
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
    product({operation.d_x.as<float>(), inputs}, {d_out, outputs}, {operation.weight.as<float>(), inputs}, rows, inputs, outputs,
            operation.add_d_x ? 1.0F : 0.0F);
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
