// Chunk by chunk: logits by a matrix product, then one block for each row, which reads them twice or thrice and leaves their gradient in
// their place, then the products of that. As gpu/cpu/head_loss.cpp and row_loss.cpp.
#include <algorithm>
#include <climits>
#include <cmath>

#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr int threads = 512;
constexpr std::size_t top_k_max = 2'048;     // of a teacher; its tokens lie in shared memory
constexpr float probability_floor = 1e-9F;   // as of row_loss.hpp

struct Rows {
  bf16* logits;                    // [chunk, vocabulary]; of the chunk's first row, as all that follow
  const bf16* teacher_logits;      // [chunk, vocabulary], or null
  const std::int32_t* top_tokens;  // [chunk, top_k], or null
  const float* top_log_p;          // [chunk, top_k]
  unsigned top_k;
  const std::int32_t* targets;     // [chunk]
  const float* weights;            // [chunk]
  float* losses;                   // [chunk]
  std::int32_t* best;              // [chunk], or null
  unsigned tokens;
  unsigned vocabulary;
  bool gradient;
  LossShape shape;
};

// Of a row of logits: the largest and its first place, Σ e^(x − most), and the same of x / temperature.
struct Statistics {
  float most;
  int place;
  float sum;
  float sum_at;

  __device__ void shrink_to(float now, float inverse_temperature) {
    sum *= __expf(most - now);
    sum_at *= __expf((most - now) * inverse_temperature);
    most = now;
  }
  __device__ void add(float x, int at, float inverse_temperature) {
    if (x > most) {
      shrink_to(x, inverse_temperature);
      place = at;
    }
    sum += __expf(x - most);
    sum_at += __expf((x - most) * inverse_temperature);
  }
  __device__ void add(const Statistics& other, float inverse_temperature) {
    Statistics smaller = other;
    if (other.most > most || (other.most == most && other.place < place)) {
      smaller = *this;
      *this = other;
    }
    if (smaller.most < most) smaller.shrink_to(most, inverse_temperature);
    sum += smaller.sum;
    sum_at += smaller.sum_at;
  }
  [[nodiscard]] __device__ Statistics of_lane(unsigned apart) const {
    return {__shfl_xor_sync(whole_warp, most, apart), __shfl_xor_sync(whole_warp, place, apart), __shfl_xor_sync(whole_warp, sum, apart),
            __shfl_xor_sync(whole_warp, sum_at, apart)};
  }
};

// Calls work(place, number) for a thread's part of a row of `count` numbers.
template <int size, class Work>
__device__ void for_each(const bf16* row, unsigned count, const Work& work) {
  const unsigned whole = count / size * size;
  for (unsigned i = threadIdx.x * size; i < whole; i += threads * size) {
    float numbers[size];
    load(numbers, row + i);
#pragma unroll
    for (int at = 0; at < size; ++at) work(i + at, numbers[at]);
  }
  for (unsigned i = whole + threadIdx.x; i < count; i += threads) work(i, __bfloat162float(row[i]));
}

// row[place] = work(place, number) for each of `count` numbers, and 0 for the rest of `all`.
template <int size, class Work>
__device__ void replace_each(bf16* row, unsigned count, unsigned all, const Work& work) {
  const unsigned whole = count / size * size;
  for (unsigned i = threadIdx.x * size; i < whole; i += threads * size) {
    float numbers[size];
    load(numbers, row + i);
#pragma unroll
    for (int at = 0; at < size; ++at) numbers[at] = work(i + at, numbers[at]);
    store(row + i, numbers);
  }
  for (unsigned i = whole + threadIdx.x; i < all; i += threads) row[i] = __float2bfloat16_rn(i < count ? work(i, __bfloat162float(row[i])) : 0.0F);
}

template <int size>
__device__ Statistics statistics_of(const bf16* row, unsigned count, float inverse_temperature) {
  __shared__ Statistics of_warps[threads / warp_size];
  Statistics own{-INFINITY, INT_MAX, 0, 0};
  for_each<size>(row, count, [&](unsigned at, float x) { own.add(x, static_cast<int>(at), inverse_temperature); });
#pragma unroll
  for (unsigned apart = warp_size / 2; apart > 0; apart /= 2) own.add(own.of_lane(apart), inverse_temperature);
  __syncthreads();  // what was there before has been read
  if (threadIdx.x % warp_size == 0) of_warps[threadIdx.x / warp_size] = own;
  __syncthreads();
  Statistics all = of_warps[0];
  for (unsigned warp = 1; warp < threads / warp_size; ++warp) all.add(of_warps[warp], inverse_temperature);
  return all;
}

__device__ float floored(float probability) { return probability > probability_floor ? probability : probability_floor; }

struct Part {
  float loss;
  float pull;
};

// As part_of() of row_loss.cpp, where the formulas are explained.
__device__ Part part_of(const LossShape& shape, float p, float q) {
  const float p_log = logf(floored(p));
  const float q_log = logf(floored(q));
  const float mix = shape.mix;
  const Part forward{p * (p_log - q_log), -p};
  const Part reverse{q * (q_log - p_log), q * (q_log - p_log)};
  switch (shape.kind) {
    case LossKind::cross_entropy: return {0, 0};
    case LossKind::forward_kl: return forward;
    case LossKind::reverse_kl: return reverse;
    case LossKind::jsd: {
      if (mix <= 0) return forward;
      if (mix >= 1) return reverse;
      const float m_log = logf(floored(mix * p + (1 - mix) * q));
      return {mix * p * (p_log - m_log) + (1 - mix) * q * (q_log - m_log), (1 - mix) * q * (q_log - m_log)};
    }
    case LossKind::skew_kl: {
      if (mix <= 0) return forward;
      const float m = floored(mix * p + (1 - mix) * q);
      return {p * (p_log - logf(m)), -(1 - mix) * p * q / m};
    }
  }
  return {0, 0};
}

// A row at work, by all threads of its block.
struct Row {
  bf16* logits;
  Statistics at;
  float inverse_temperature;
  float inverse_sum;     // of e^(x − most)
  float inverse_sum_at;  // at the temperature
  int target;
  float cross_factor;    // of the gradient of the cross-entropy
  float factor;          // of the divergence's
  [[nodiscard]] __device__ float q(float x) const { return __expf((x - at.most) * inverse_temperature) * inverse_sum_at; }
  // The gradient by one logit, with the sum of all pulls.
  [[nodiscard]] __device__ float slope(unsigned place, float x, float pull, float pulls) const {
    float slope = 0;
    if (cross_factor != 0) slope = cross_factor * (__expf(x - at.most) * inverse_sum - (static_cast<int>(place) == target ? 1.0F : 0.0F));
    return factor == 0 ? slope : slope + factor * (pull - q(x) * pulls);
  }
};

// The teacher's own distribution: tokens are the buckets. Returns the divergence.
template <int size>
__device__ float diverge_fully(const Rows& rows, const Row& row, const bf16* teacher) {
  const Statistics of_teacher = statistics_of<size>(teacher, rows.tokens, row.inverse_temperature);
  const float inverse = 1.0F / of_teacher.sum_at;
  const auto part_at = [&](unsigned at, float x) {
    const float p = __expf((__bfloat162float(teacher[at]) - of_teacher.most) * row.inverse_temperature) * inverse;
    return part_of(rows.shape, p, row.q(x));
  };
  float loss = 0;
  float pulls = 0;
  for_each<size>(row.logits, rows.tokens, [&](unsigned at, float x) {
    const Part part = part_at(at, x);
    loss += part.loss;
    pulls += part.pull;
  });
  loss = block_sum<threads>(loss);
  pulls = block_sum<threads>(pulls);
  if (rows.gradient) replace_each<size>(row.logits, rows.tokens, rows.vocabulary, [&](unsigned at, float x) { return row.slope(at, x, part_at(at, x).pull, pulls); });
  return loss;
}

// The teacher's top tokens are a bucket each, all others are one. `top_logits`: shared, [top_k].
template <int size>
__device__ float diverge_by_top(const Rows& rows, const Row& row, const std::int32_t* top_tokens, const float* top_log_p, float* top_logits) {
  const auto is_token = [&](unsigned i) { return top_tokens[i] >= 0 && static_cast<unsigned>(top_tokens[i]) < rows.tokens; };
  float p_sum = 0;
  float q_top = 0;
  for (unsigned i = threadIdx.x; i < rows.top_k; i += threads) {
    if (!is_token(i)) continue;
    top_logits[i] = __bfloat162float(row.logits[top_tokens[i]]);
    p_sum += expf(top_log_p[i]);
    q_top += row.q(top_logits[i]);
  }
  p_sum = block_sum<threads>(p_sum);
  q_top = block_sum<threads>(q_top);
  float q_rest = 1 - q_top;
  if (q_top >= 0.99F) {
    // Summed by itself: 1 − q_top would be noise. The top tokens are left out, not taken away again.
    q_rest = 0;
    for_each<size>(row.logits, rows.tokens, [&](unsigned at, float x) {
      for (unsigned i = 0; i < rows.top_k; ++i) {
        if (top_tokens[i] == static_cast<int>(at)) return;
      }
      q_rest += row.q(x);
    });
    q_rest = block_sum<threads>(q_rest);
  }
  q_rest = fmaxf(0.0F, q_rest);
  const Part rest = part_of(rows.shape, fmaxf(0.0F, 1 - p_sum), q_rest);
  const float share = rest.pull / floored(q_rest);
  float loss = 0;
  float pulls = 0;
  for (unsigned i = threadIdx.x; i < rows.top_k; i += threads) {
    if (!is_token(i)) continue;
    const Part part = part_of(rows.shape, expf(top_log_p[i]), row.q(top_logits[i]));
    loss += part.loss;
    pulls += part.pull;
  }
  loss = block_sum<threads>(loss) + rest.loss;
  pulls = block_sum<threads>(pulls) + share * q_rest;
  if (!rows.gradient) return loss;
  replace_each<size>(row.logits, rows.tokens, rows.vocabulary, [&](unsigned at, float x) { return row.slope(at, x, row.q(x) * share, pulls); });
  __syncthreads();  // those of the top tokens are written once more
  for (unsigned i = threadIdx.x; i < rows.top_k; i += threads) {
    if (!is_token(i)) continue;
    const Part part = part_of(rows.shape, expf(top_log_p[i]), row.q(top_logits[i]));
    row.logits[top_tokens[i]] = __float2bfloat16_rn(row.slope(static_cast<unsigned>(top_tokens[i]), top_logits[i], part.pull, pulls));
  }
  return loss;
}

// A block for each row. Shared memory: f32 [top_k].
template <int size>
__global__ void __launch_bounds__(threads) row_losses(Rows rows) {
  extern __shared__ float top_logits[];
  const std::size_t number = blockIdx.x;
  const std::int32_t* const top_tokens = rows.top_tokens == nullptr ? nullptr : rows.top_tokens + number * rows.top_k;
  // A row whose teacher said nothing learns from its target alone.
  const bool has_top = top_tokens != nullptr && top_tokens[0] >= 0;
  const bool has_logits = rows.teacher_logits != nullptr;
  const bool distils = rows.shape.kind != LossKind::cross_entropy && (has_top || has_logits);
  const float cross_share = distils ? rows.shape.cross_entropy : 1.0F;
  const float temperature = rows.shape.temperature;

  Row row;
  row.logits = rows.logits + number * rows.vocabulary;
  row.target = rows.targets[number];
  row.inverse_temperature = 1.0F / temperature;
  const float own = __bfloat162float(row.logits[row.target]);
  row.at = statistics_of<size>(row.logits, rows.tokens, row.inverse_temperature);  // all have read `own` when it returns
  row.inverse_sum = 1.0F / row.at.sum;
  row.inverse_sum_at = 1.0F / row.at.sum_at;
  row.cross_factor = rows.weights[number] * cross_share;
  // By the logits over the temperature; T² / T = T of it are left.
  row.factor = distils ? rows.weights[number] * (1 - cross_share) * temperature : 0.0F;

  float loss = cross_share > 0 ? cross_share * (row.at.most + logf(row.at.sum) - own) : 0.0F;
  if (distils) {
    const float divergence = has_logits ? diverge_fully<size>(rows, row, rows.teacher_logits + number * rows.vocabulary)
                                        : diverge_by_top<size>(rows, row, top_tokens, rows.top_log_p + number * rows.top_k, top_logits);
    loss += (1 - cross_share) * temperature * temperature * divergence;
  } else if (rows.gradient) {
    replace_each<size>(row.logits, rows.tokens, rows.vocabulary, [&](unsigned at, float x) { return row.slope(at, x, 0, 0); });
  }
  if (threadIdx.x != 0) return;
  rows.losses[number] = loss;
  if (rows.best != nullptr) rows.best[number] = row.at.place == INT_MAX ? 0 : row.at.place;
}

}  // namespace

void CudaDevice::run(const HeadLoss& operation) {
  constexpr const char* what = "the loss of the head";
  const std::size_t width = operation.width;
  const std::size_t vocabulary = operation.vocabulary;
  const bool gradient = !operation.d_x.empty();
  const Teacher& teacher = operation.teacher;
  if (teacher.top_k > top_k_max) return keep(what, "a teacher says at most " + std::to_string(top_k_max) + " tokens for each of a student's");
  const CudaMatrix logits{operation.logits.data, vocabulary};
  const CudaMatrix head{operation.head.data, width};
  const auto row_of = [](const Array& array, std::size_t row, std::size_t columns) { return CudaMatrix{bf16_of(array) + row * columns, columns}; };
  for (std::size_t from = 0; from < operation.losses.count; from += operation.chunk_rows) {
    const std::size_t size = std::min(operation.chunk_rows, operation.losses.count - from);
    const CudaMatrix x = row_of(operation.x, from, width);
    keep(products_.product_bt(stream(), logits, x, head, size, vocabulary, width), what);
    if (teacher.width > 0) {
      keep(products_.product_bt(stream(), {operation.teacher_logits.data, vocabulary}, row_of(teacher.x, from, teacher.width), {teacher.head.data, teacher.width}, size,
                                operation.tokens, teacher.width),
           what);
    }
    Rows rows{};
    rows.logits = bf16_of(operation.logits);
    if (teacher.width > 0) rows.teacher_logits = bf16_of(operation.teacher_logits);
    if (teacher.top_k > 0) {
      rows.top_tokens = teacher.top_tokens.as<std::int32_t>() + from * teacher.top_k;
      rows.top_log_p = teacher.top_log_p.as<float>() + from * teacher.top_k;
      rows.top_k = static_cast<unsigned>(teacher.top_k);
    }
    rows.targets = operation.targets.as<std::int32_t>() + from;
    rows.weights = operation.weights.as<float>() + from;
    rows.losses = operation.losses.as<float>() + from;
    if (!operation.best.empty()) rows.best = operation.best.as<std::int32_t>() + from;
    rows.tokens = static_cast<unsigned>(operation.tokens);
    rows.vocabulary = static_cast<unsigned>(vocabulary);
    rows.gradient = gradient;
    rows.shape = operation.shape;
    const std::size_t bytes = teacher.top_k * sizeof(float);
    const auto blocks = static_cast<unsigned>(size);
    if (can_pack(vocabulary, {rows.logits, rows.teacher_logits})) row_losses<pack_size><<<blocks, threads, bytes, stream()>>>(rows);
    else row_losses<1><<<blocks, threads, bytes, stream()>>>(rows);
    launched(what);
    if (!gradient) continue;
    keep(products_.product(stream(), row_of(operation.d_x, from, width), logits, head, size, width, vocabulary), what);
    if (!operation.d_head.empty()) keep(products_.product_at(stream(), {operation.d_head.data, width, Dtype::f32}, logits, x, vocabulary, width, size, 1), what);
  }
}

}  // namespace outlast::gpu
