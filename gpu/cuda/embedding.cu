#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned threads = 256;

// A thread for each pack of out [count, width].
template <int size>
__global__ void gather(bf16* out, const bf16* from, const std::int32_t* rows, std::size_t count, std::size_t width) {
  const std::size_t packs = width / size;
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= count * packs) return;
  const std::size_t column = i % packs * size;
  const auto row = static_cast<std::size_t>(rows[i / packs]);
  *reinterpret_cast<Pack<size>*>(out + i / packs * width + column) = *reinterpret_cast<const Pack<size>*>(from + row * width + column);
}

template <int size>
__global__ void scatter(bf16* into, const bf16* from, const std::int32_t* rows, std::size_t count, std::size_t width) {
  const std::size_t packs = width / size;
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= count * packs) return;
  const std::size_t column = i % packs * size;
  bf16* const to = into + static_cast<std::size_t>(rows[i / packs]) * width + column;
  float sum[size];
  float more[size];
  load(sum, to);
  load(more, from + i / packs * width + column);
#pragma unroll
  for (int at = 0; at < size; ++at) sum[at] += more[at];
  store(to, sum);
}

// One row of the table may be the sum of many: the block of the first row with a token adds up all that have it, in their order.
__global__ void __launch_bounds__(threads) embedding_backward(float* d_table, const bf16* d_out, const std::int32_t* tokens, std::size_t rows, std::size_t width) {
  __shared__ bool same[threads];
  const std::size_t row = blockIdx.x;
  const std::int32_t token = tokens[row];
  bool earlier = false;
  for (std::size_t at = threadIdx.x; at < row; at += threads) earlier = earlier || tokens[at] == token;
  if (__syncthreads_or(earlier ? 1 : 0) != 0) return;
  float* const to = d_table + static_cast<std::size_t>(token) * width;
  for (std::size_t from = row; from < rows; from += threads) {
    const std::size_t at = from + threadIdx.x;
    same[threadIdx.x] = at < rows && tokens[at] == token;
    if (__syncthreads_or(same[threadIdx.x] ? 1 : 0) == 0) continue;
    for (std::size_t column = threadIdx.x; column < width; column += threads) {
      float sum = 0;
      for (unsigned i = 0; i < threads; ++i) {
        if (same[i]) sum += __bfloat162float(d_out[(from + i) * width + column]);
      }
      to[column] += sum;
    }
    __syncthreads();  // before `same` is written again
  }
}

unsigned blocks_of(std::size_t numbers, int size) { return static_cast<unsigned>(divided_up<std::size_t>(numbers / static_cast<std::size_t>(size), threads)); }

}  // namespace

void CudaDevice::run(const Embedding& operation) { run(Gather{operation.out, operation.table, operation.tokens, operation.width}); }

void CudaDevice::run(const EmbeddingBackward& operation) {
  const std::size_t rows = operation.tokens.count;
  if (rows == 0) return;
  embedding_backward<<<static_cast<unsigned>(rows), threads, 0, stream()>>>(operation.d_table.as<float>(), bf16_of(operation.d_out), operation.tokens.as<std::int32_t>(),
                                                                            rows, operation.width);
  launched("the embedding's gradient");
}

void CudaDevice::run(const Gather& operation) {
  const std::size_t count = operation.rows.count;
  const std::size_t width = operation.width;
  if (count == 0) return;
  bf16* const out = bf16_of(operation.out);
  const bf16* const from = bf16_of(operation.from);
  const auto* const rows = operation.rows.as<std::int32_t>();
  if (can_pack(width, {out, from})) gather<pack_size><<<blocks_of(count * width, pack_size), threads, 0, stream()>>>(out, from, rows, count, width);
  else gather<1><<<blocks_of(count * width, 1), threads, 0, stream()>>>(out, from, rows, count, width);
  launched("gathering rows");
}

void CudaDevice::run(const Scatter& operation) {
  const std::size_t count = operation.rows.count;
  const std::size_t width = operation.width;
  if (count == 0) return;
  bf16* const into = bf16_of(operation.into);
  const bf16* const from = bf16_of(operation.from);
  const auto* const rows = operation.rows.as<std::int32_t>();
  if (can_pack(width, {into, from})) scatter<pack_size><<<blocks_of(count * width, pack_size), threads, 0, stream()>>>(into, from, rows, count, width);
  else scatter<1><<<blocks_of(count * width, 1), threads, 0, stream()>>>(into, from, rows, count, width);
  launched("scattering rows");
}

}  // namespace outlast::gpu
