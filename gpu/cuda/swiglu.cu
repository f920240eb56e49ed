#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned threads = 256;

// A thread for each pack of [rows, width]; where its gate lies in [rows, 2 · width].
template <int size>
struct Place {
  __device__ Place(std::size_t i, std::size_t width)
      : out(i / (width / size) * width + i % (width / size) * size), gate(i / (width / size) * 2 * width + i % (width / size) * size), up(gate + width) {}
  std::size_t out;
  std::size_t gate;
  std::size_t up;
};

template <int size>
__global__ void forward(bf16* out, const bf16* gate_up, std::size_t packs, std::size_t width) {
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= packs) return;
  const Place<size> at(i, width);
  float gate[size];
  float up[size];
  load(gate, gate_up + at.gate);
  load(up, gate_up + at.up);
#pragma unroll
  for (int j = 0; j < size; ++j) gate[j] = gate[j] / (1.0F + __expf(-gate[j])) * up[j];
  store(out + at.out, gate);
}

// As the CPU's (gpu/cpu/swiglu.cpp). d_gate_up may be gate_up: a thread has read what it writes.
template <int size>
__global__ void backward(bf16* d_gate_up, const bf16* d_out, const bf16* gate_up, std::size_t packs, std::size_t width) {
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= packs) return;
  const Place<size> at(i, width);
  float gate[size];
  float up[size];
  float d[size];
  load(gate, gate_up + at.gate);
  load(up, gate_up + at.up);
  load(d, d_out + at.out);
#pragma unroll
  for (int j = 0; j < size; ++j) {
    const float g = gate[j];
    const float s = 1.0F / (1.0F + __expf(-g));
    gate[j] = d[j] * up[j] * s * (1.0F + g * (1.0F - s));
    up[j] = d[j] * g * s;
  }
  store(d_gate_up + at.gate, gate);
  store(d_gate_up + at.up, up);
}

}  // namespace

void CudaDevice::run(const SwiGlu& operation) {
  if (operation.out.empty()) return;
  bf16* const out = bf16_of(operation.out);
  const bf16* const gate_up = bf16_of(operation.gate_up);
  const bool packed = can_pack(operation.width, {out, gate_up});
  const std::size_t packs = operation.out.count / (packed ? pack_size : 1);
  const auto blocks = static_cast<unsigned>(divided_up<std::size_t>(packs, threads));
  if (packed) forward<pack_size><<<blocks, threads, 0, stream()>>>(out, gate_up, packs, operation.width);
  else forward<1><<<blocks, threads, 0, stream()>>>(out, gate_up, packs, operation.width);
  launched("SwiGLU");
}

void CudaDevice::run(const SwiGluBackward& operation) {
  if (operation.d_out.empty()) return;
  bf16* const d_gate_up = bf16_of(operation.d_gate_up);
  const bf16* const d_out = bf16_of(operation.d_out);
  const bf16* const gate_up = bf16_of(operation.gate_up);
  const bool packed = can_pack(operation.width, {d_gate_up, d_out, gate_up});
  const std::size_t packs = operation.d_out.count / (packed ? pack_size : 1);
  const auto blocks = static_cast<unsigned>(divided_up<std::size_t>(packs, threads));
  if (packed) backward<pack_size><<<blocks, threads, 0, stream()>>>(d_gate_up, d_out, gate_up, packs, operation.width);
  else backward<1><<<blocks, threads, 0, stream()>>>(d_gate_up, d_out, gate_up, packs, operation.width);
  launched("SwiGLU's gradient");
}

}  // namespace outlast::gpu
