#include <cstring>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t rows_per_thread_min = 64;

OUTLAST_KERNEL void add_row(float* into, const float* from, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) into[i] += from[i];
}

}  // namespace

void CpuDevice::run(const Embedding& operation) {
  run(Gather{operation.out, operation.table, operation.tokens, operation.width});
}

// One row of the table may be the sum of many: each thread sums into its own part of the width.
void CpuDevice::run(const EmbeddingBackward& operation) {
  const std::size_t width = operation.width;
  const std::size_t rows = operation.tokens.count;
  const auto* const tokens = operation.tokens.as<std::int32_t>();
  threads_.for_each(width, 16, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t row = 0; row < rows; ++row) {
      add_row(operation.d_table.as<float>() + static_cast<std::size_t>(tokens[row]) * width + begin, operation.d_out.as<float>() + row * width + begin, end - begin);
    }
  });
}

void CpuDevice::run(const Gather& operation) {
  const std::size_t width = operation.width;
  const auto* const rows = operation.rows.as<std::int32_t>();
  threads_.for_each(operation.rows.count, rows_per_thread_min, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) {
      std::memcpy(operation.out.as<float>() + i * width, operation.from.as<float>() + static_cast<std::size_t>(rows[i]) * width, width * sizeof(float));
    }
  });
}

void CpuDevice::run(const Scatter& operation) {
  const std::size_t width = operation.width;
  const auto* const rows = operation.rows.as<std::int32_t>();
  threads_.for_each(operation.rows.count, rows_per_thread_min, [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) {
      add_row(operation.into.as<float>() + static_cast<std::size_t>(rows[i]) * width, operation.from.as<float>() + i * width, width);
    }
  });
}

}  // namespace outlast::gpu
