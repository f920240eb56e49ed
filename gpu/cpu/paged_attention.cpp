#include <algorithm>
#include <cmath>
#include <cstring>

#include "gpu/cpu/cpu_device.hpp"
#include "gpu/cpu/few_rows.hpp"
#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t block = 64;  // queries whose scores are held at once
// As few queries of one head are dot products with the pages where they lie; more are worth a copy and a matrix product.
constexpr std::size_t few_queries = 4;
constexpr std::size_t products_per_thread_min = 32'768;
constexpr std::size_t rows_written_per_thread_min = 64;

// The pages of one sequence and one key-value head: [page_rows, dim] each.
struct Pages {
  const std::int32_t* table;
  std::size_t stride;  // numbers from one page to the next
  std::size_t head;    // numbers from a page's begin to the head
  std::size_t page_rows;
  std::size_t dim;
  [[nodiscard]] std::size_t at(std::size_t page) const { return static_cast<std::size_t>(table[page]) * stride + head; }
};

// Probabilities from scaled scores: all but their sum, which is returned.
[[gnu::always_inline]] inline float exponentials(float* scores, std::size_t keys, float scale) {
  const float most = max_of(scores, keys) * scale;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t j = 0; j < keys; ++j) {
    scores[j] = exp_of(scores[j] * scale - most);
    sum += scores[j];
  }
  return sum;
}

// out += Σ p·v, of four values at a time: what is summed up is read and written once for them.
[[gnu::always_inline]] inline void add_values(float* out, const float* p, const float* v, std::size_t count, std::size_t dim) {
  std::size_t j = 0;
  for (; j + 4 <= count; j += 4, v += 4 * dim) {
#pragma omp simd
    for (std::size_t i = 0; i < dim; ++i) out[i] += (p[j] * v[i] + p[j + 1] * v[dim + i]) + (p[j + 2] * v[2 * dim + i] + p[j + 3] * v[3 * dim + i]);
  }
  for (; j < count; ++j, v += dim) {
#pragma omp simd
    for (std::size_t i = 0; i < dim; ++i) out[i] += p[j] * v[i];
  }
}

// From scores [heads, count] of one query to out [heads, dim].
OUTLAST_KERNEL void attend_scores(float* out, float* scores, std::size_t heads, std::size_t count, const float* values, const Pages& pages, float scale) {
  for (std::size_t head = 0; head < heads; ++head) {
    float* const row = scores + head * count;
    float* const sum = out + head * pages.dim;
    const float inverse = 1.0F / exponentials(row, count, scale);
    for (std::size_t i = 0; i < pages.dim; ++i) sum[i] = 0;
    for (std::size_t from = 0; from < count; from += pages.page_rows) {
      add_values(sum, row + from, values + pages.at(from / pages.page_rows), std::min(pages.page_rows, count - from), pages.dim);
    }
    for (std::size_t i = 0; i < pages.dim; ++i) sum[i] *= inverse;
  }
}

// One query, of the heads that read one key-value head: [heads, dim].
void attend_one(float* out, const float* q, std::size_t heads, const float* keys, const float* values, const Pages& pages, std::size_t count, float scale, float* scores) {
  for (std::size_t from = 0; from < count; from += pages.page_rows) {
    few_rows_product({scores + from, count}, {q, pages.dim}, {keys + pages.at(from / pages.page_rows), pages.dim}, heads, std::min(pages.page_rows, count - from), pages.dim);
  }
  attend_scores(out, scores, heads, count, values, pages, scale);
}

// Of a block of queries, the first of which sees `first_keys` keys and each next one more.
OUTLAST_KERNEL void soft_max(float* scores, std::size_t size, std::size_t stride, std::size_t first_keys, float scale) {
  for (std::size_t i = 0; i < size; ++i) {
    float* const row = scores + i * stride;
    const std::size_t keys = first_keys + i;
    const float inverse = 1.0F / exponentials(row, keys, scale);
    for (std::size_t j = 0; j < keys; ++j) row[j] *= inverse;
    std::fill(row + keys, row + stride, 0.0F);
  }
}

// Keys or values of a sequence, out of its pages: [count, dim]
void gather(float* out, const float* cache, const Pages& pages, std::size_t count) {
  for (std::size_t from = 0; from < count; from += pages.page_rows) {
    const std::size_t size = std::min(pages.page_rows, count - from);
    std::memcpy(out + from * pages.dim, cache + pages.at(from / pages.page_rows), size * pages.dim * sizeof(float));
  }
}

// The rows' own keys and values, each to its place. Rows of one sequence after the other, as `begins` says.
void write_pages(const PagedAttention& operation, std::size_t sequence, std::size_t begin, std::size_t end) {
  const HeadShape& shape = operation.shape;
  const auto* const table = operation.tables.as<std::int32_t>() + sequence * operation.table_width;
  for (std::size_t row = begin; row < end; ++row) {
    const auto position = static_cast<std::size_t>(operation.positions.as<std::int32_t>()[row]);
    const auto page = static_cast<std::size_t>(table[position / operation.page_rows]);
    const float* const k = operation.k.as<float>() + row * shape.kv_width();
    const float* const v = operation.qkv.as<float>() + row * shape.qkv_width() + shape.q_width() + shape.kv_width();
    for (std::size_t head = 0; head < shape.kv_heads; ++head) {
      const std::size_t at = ((page * shape.kv_heads + head) * operation.page_rows + position % operation.page_rows) * shape.dim;
      std::memcpy(operation.keys.as<float>() + at, k + head * shape.dim, shape.dim * sizeof(float));
      std::memcpy(operation.values.as<float>() + at, v + head * shape.dim, shape.dim * sizeof(float));
    }
  }
}

// Query rows [from, from + size) of one sequence, of the heads that read one key-value head.
struct Block {
  std::size_t sequence;
  std::size_t from;
  std::size_t size;
  std::size_t kv;
};

void attend_block(const PagedAttention& operation, const Blas& blas, const Block& at, float* scratch) {
  const HeadShape& shape = operation.shape;
  const std::size_t dim = shape.dim;
  const float scale = 1.0F / std::sqrt(static_cast<float>(dim));
  const auto first_keys = static_cast<std::size_t>(operation.positions.as<std::int32_t>()[at.from]) + 1;
  const std::size_t keys = first_keys + at.size - 1;
  const std::size_t of_head = operation.page_rows * dim;
  const Pages pages{operation.tables.as<std::int32_t>() + at.sequence * operation.table_width, shape.kv_heads * of_head, at.kv * of_head, operation.page_rows, dim};
  const std::size_t group = shape.heads / shape.kv_heads;
  float* const scores = scratch;  // [block, keys], or [group, keys]
  if (at.size <= few_queries) {
    for (std::size_t row = at.from; row < at.from + at.size; ++row) {
      const std::size_t place = row * shape.q_width() + at.kv * group * dim;
      attend_one(operation.out.as<float>() + place, operation.q.as<float>() + place, group, operation.keys.as<float>(), operation.values.as<float>(), pages,
                 first_keys + row - at.from, scale, scores);
    }
    return;
  }
  float* const own_keys = scores + block * keys;    // [keys, dim]
  float* const own_values = own_keys + keys * dim;  // [keys, dim]
  gather(own_keys, operation.keys.as<float>(), pages, keys);
  gather(own_values, operation.values.as<float>(), pages, keys);
  for (std::size_t head = at.kv * group; head < (at.kv + 1) * group; ++head) {
    const float* const q = operation.q.as<float>() + at.from * shape.q_width() + head * dim;
    float* const out = operation.out.as<float>() + at.from * shape.q_width() + head * dim;
    blas.product_bt({scores, keys}, {q, shape.q_width()}, {own_keys, dim}, at.size, keys, dim);
    soft_max(scores, at.size, keys, first_keys, scale);
    blas.product({out, shape.q_width()}, {scores, keys}, {own_values, dim}, at.size, dim, keys);
  }
}

}  // namespace

void CpuDevice::run(const PagedAttention& operation) {
  const HeadShape& shape = operation.shape;
  const auto* const begins = operation.begins.as<std::int32_t>();
  const auto begin_of = [begins](std::size_t sequence) { return static_cast<std::size_t>(begins[sequence]); };
  const std::size_t rows = begin_of(operation.sequences);
  threads_.for_each(operation.sequences, std::max<std::size_t>(1, rows_written_per_thread_min * operation.sequences / rows),
                    [&operation, &begin_of](std::size_t begin, std::size_t end, std::size_t) {
                      for (std::size_t sequence = begin; sequence < end; ++sequence) write_pages(operation, sequence, begin_of(sequence), begin_of(sequence + 1));
                    });
  // Blocks are dealt out in turn, each thread counting through all of them: a list would have to be allocated.
  const std::size_t products = rows * operation.longest * shape.heads * shape.dim;
  const std::size_t parts = std::clamp<std::size_t>(products / products_per_thread_min, 1, threads_.count());
  threads_.for_each(parts, 1, [this, &operation, &shape, &begin_of, parts](std::size_t begin, std::size_t end, std::size_t thread) {
    std::size_t number = 0;
    for (std::size_t sequence = 0; sequence < operation.sequences; ++sequence) {
      const std::size_t last = begin_of(sequence + 1);
      for (std::size_t from = begin_of(sequence); from < last; from += block) {
        for (std::size_t kv = 0; kv < shape.kv_heads; ++kv, ++number) {
          if (number % parts < begin || number % parts >= end) continue;
          float* const scratch = scratch_of(thread, (std::max(block, shape.heads / shape.kv_heads) + 2 * shape.dim) * operation.longest);
          attend_block(operation, blas_, {sequence, from, std::min(block, last - from), kv}, scratch);
        }
      }
    }
  });
}

}  // namespace outlast::gpu
