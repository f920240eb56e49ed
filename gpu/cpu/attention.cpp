#include <algorithm>
#include <cmath>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t block = 64;  // queries whose scores are held at once

// Query rows [from, from + size) of one head of one sequence; their keys are [first, from + size).
struct Block {
  std::size_t first = 0;
  std::size_t from = 0;
  std::size_t size = 0;
  std::size_t head = 0;
  [[nodiscard]] std::size_t keys() const { return from + size - first; }
};

// Scores to probabilities, row by row, each up to its own key; and the log of each sum.
OUTLAST_KERNEL void soft_max(float* scores, std::size_t stride, const Block& at, float scale, float* log_sum, std::size_t log_stride) {
  for (std::size_t i = 0; i < at.size; ++i) {
    float* const row = scores + i * stride;
    const std::size_t keys = at.from - at.first + i + 1;
    const float most = max_of(row, keys) * scale;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::size_t j = 0; j < keys; ++j) {
      row[j] = exp_of(row[j] * scale - most);
      sum += row[j];
    }
    const float inverse = 1.0F / sum;
    for (std::size_t j = 0; j < keys; ++j) row[j] *= inverse;
    std::fill(row + keys, row + at.keys(), 0.0F);
    log_sum[i * log_stride] = most + std::log(sum);
  }
}

// Probabilities again, from scores and the log of their sums.
OUTLAST_KERNEL void probabilities(float* scores, std::size_t stride, const Block& at, float scale, const float* log_sum, std::size_t log_stride) {
  for (std::size_t i = 0; i < at.size; ++i) {
    float* const row = scores + i * stride;
    const std::size_t keys = at.from - at.first + i + 1;
    const float log = log_sum[i * log_stride];
    for (std::size_t j = 0; j < keys; ++j) row[j] = exp_of(row[j] * scale - log);
    std::fill(row + keys, row + at.keys(), 0.0F);
  }
}

// d_scores = p · (d_p − rows' dot(d_out, out)) · scale, in place of d_p
OUTLAST_KERNEL void soft_max_backward(float* d_p, const float* p, std::size_t stride, const Block& at, float scale, const float* d_out, const float* out,
                                      std::size_t width, std::size_t dim) {
  for (std::size_t i = 0; i < at.size; ++i) {
    const float dot = dot_of(d_out + i * width, out + i * width, dim);
    for (std::size_t j = 0; j < at.keys(); ++j) d_p[i * stride + j] = p[i * stride + j] * (d_p[i * stride + j] - dot) * scale;
  }
}

float scale_of(const HeadShape& shape) { return 1.0F / std::sqrt(static_cast<float>(shape.dim)); }

std::size_t row_at(const Array& begins, std::size_t sequence) { return static_cast<std::size_t>(begins.as<std::int32_t>()[sequence]); }

// Where heads of one row lie.
struct Rows {
  const HeadShape shape;
  [[nodiscard]] std::size_t q(std::size_t row, std::size_t head) const { return (row * shape.heads + head) * shape.dim; }
  [[nodiscard]] std::size_t k(std::size_t row, std::size_t kv_head) const { return (row * shape.kv_heads + kv_head) * shape.dim; }
  [[nodiscard]] std::size_t v(std::size_t row, std::size_t kv_head) const {
    return row * shape.qkv_width() + shape.q_width() + shape.kv_width() + kv_head * shape.dim;
  }
  [[nodiscard]] std::size_t kv_of(std::size_t head) const { return head / (shape.heads / shape.kv_heads); }
};

}  // namespace

void CpuDevice::run(const Attention& operation) {
  const HeadShape& shape = operation.shape;
  const Rows rows{shape};
  std::vector<Block> blocks;
  for (std::size_t sequence = 0; sequence < operation.sequences; ++sequence) {
    const std::size_t first = row_at(operation.begins, sequence);
    const std::size_t end = row_at(operation.begins, sequence + 1);
    for (std::size_t from = first; from < end; from += block) {
      for (std::size_t head = 0; head < shape.heads; ++head) blocks.push_back({first, from, std::min(block, end - from), head});
    }
  }
  // Later blocks have more keys: they are dealt out in turn.
  const std::size_t count = threads_.count();
  threads_.for_each(count, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    float* const scores = scratch_of(thread, block * operation.longest);
    for (std::size_t turn = begin; turn < end; ++turn) {
      for (std::size_t i = turn; i < blocks.size(); i += count) {
        const Block& at = blocks[i];
        const std::size_t kv = rows.kv_of(at.head);
        const std::size_t keys = at.keys();
        blas_.product_bt({scores, keys}, {operation.q.as<float>() + rows.q(at.from, at.head), shape.q_width()},
                         {operation.k.as<float>() + rows.k(at.first, kv), shape.kv_width()}, at.size, keys, shape.dim);
        soft_max(scores, keys, at, scale_of(shape), operation.log_sum.as<float>() + at.from * shape.heads + at.head, shape.heads);
        blas_.product({operation.out.as<float>() + rows.q(at.from, at.head), shape.q_width()}, {scores, keys},
                      {operation.qkv.as<float>() + rows.v(at.first, kv), shape.qkv_width()}, at.size, shape.dim, keys);
      }
    }
  });
}

// A key-value head of a sequence belongs to one thread, which goes over its queries.
void CpuDevice::run(const AttentionBackward& operation) {
  const HeadShape& shape = operation.shape;
  const Rows rows{shape};
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t items = operation.sequences * shape.kv_heads;
  const float scale = scale_of(shape);
  const std::size_t count = threads_.count();
  threads_.for_each(count, 1, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    float* const p = scratch_of(thread, 2 * block * operation.longest);
    float* const d_p = p + block * operation.longest;
    const auto one = [&](std::size_t first, std::size_t last, std::size_t kv) {
      const ConstMatrix k{operation.k.as<float>() + rows.k(first, kv), shape.kv_width()};
      const ConstMatrix v{operation.qkv.as<float>() + rows.v(first, kv), shape.qkv_width()};
      const Matrix d_k{operation.d_k.as<float>() + rows.k(first, kv), shape.kv_width()};
      const Matrix d_v{operation.d_qkv.as<float>() + rows.v(first, kv), shape.qkv_width()};
      for (std::size_t row = 0; row < last - first; ++row) {
        std::fill_n(d_k.data + row * d_k.stride, shape.dim, 0.0F);
        std::fill_n(d_v.data + row * d_v.stride, shape.dim, 0.0F);
      }
      for (std::size_t head = kv * group; head < (kv + 1) * group; ++head) {
        for (std::size_t from = first; from < last; from += block) {
          const Block at{first, from, std::min(block, last - from), head};
          const std::size_t keys = at.keys();
          const ConstMatrix q{operation.q.as<float>() + rows.q(from, head), shape.q_width()};
          const ConstMatrix d_out{operation.d_out.as<float>() + rows.q(from, head), shape.q_width()};
          blas_.product_bt({p, keys}, q, k, at.size, keys, shape.dim);
          probabilities(p, keys, at, scale, operation.log_sum.as<float>() + from * shape.heads + head, shape.heads);
          blas_.product_at(d_v, {p, keys}, d_out, keys, shape.dim, at.size, 1);
          blas_.product_bt({d_p, keys}, d_out, v, at.size, keys, shape.dim);
          soft_max_backward(d_p, p, keys, at, scale, d_out.data, operation.out.as<float>() + rows.q(from, head), shape.q_width(), shape.dim);
          blas_.product({operation.d_q.as<float>() + rows.q(from, head), shape.q_width()}, {d_p, keys}, k, at.size, shape.dim, keys);
          blas_.product_at(d_k, {d_p, keys}, q, keys, shape.dim, at.size, 1);
        }
      }
    };
    for (std::size_t turn = begin; turn < end; ++turn) {
      for (std::size_t item = turn; item < items; item += count) {
        const std::size_t sequence = item / shape.kv_heads;
        one(row_at(operation.begins, sequence), row_at(operation.begins, sequence + 1), item % shape.kv_heads);
      }
    }
  });
}

}  // namespace outlast::gpu
