#include "gpu/cuda/attention_places.cuh"
#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/flash.cuh"

namespace outlast::gpu {
namespace {

// Where whole sequences lie.
struct Places {
  HeadPlaces heads;
  const std::int32_t* begins;
  bf16* out;
  float* log_sums;
  const bf16* q;
  const bf16* k;
  const bf16* qkv;
  bool packs;

  struct Source {
    const Places& all;
    unsigned head;
    unsigned kv;
    int first;
    __device__ const bf16* q(int row) const { return all.q + all.heads.q(row, head); }
    __device__ const bf16* k(int key) const { return all.k + all.heads.k(first + key, kv); }
    __device__ const bf16* v(int key) const { return all.qkv + all.heads.v(first + key, kv); }
    __device__ bf16* out(int row) const { return all.out + all.heads.q(row, head); }
    __device__ void tell_log_sum(int row, float log_sum) const { all.log_sums[static_cast<std::size_t>(row) * all.heads.heads + head] = log_sum; }
  };

  __device__ flash::Range range(unsigned sequence) const { return {begins[sequence], begins[sequence + 1] - begins[sequence], 0}; }
  __device__ Source of(unsigned sequence, unsigned head) const { return {*this, head, heads.kv_of(head), begins[sequence]}; }
};

}  // namespace

void CudaDevice::run(const Attention& operation) {
  const HeadShape& shape = operation.shape;
  if (operation.sequences == 0 || operation.longest == 0) return;
  if (!can_attend(shape)) return keep("attention", attention_limits);
  const Places places{HeadPlaces(shape), operation.begins.as<std::int32_t>(), bf16_of(operation.out), operation.log_sum.as<float>(), bf16_of(operation.q),
                      bf16_of(operation.k), bf16_of(operation.qkv), can_pack(shape.dim, {operation.q.data, operation.k.data, operation.qkv.data})};
  const auto tiles = static_cast<unsigned>(divided_up<std::size_t>(operation.longest, flash::tile_rows));
  const dim3 blocks(static_cast<unsigned>(tiles * operation.sequences), static_cast<unsigned>(shape.heads));
  const auto launch = [&](void (*attend)(Places, unsigned, int, float), std::size_t bytes) {
    if (!let_share(reinterpret_cast<const void*>(attend), bytes, "attention")) return;
    attend<<<blocks, flash::threads, bytes, stream()>>>(places, tiles, static_cast<int>(shape.dim), attention_scale(shape));
    launched("attention");
  };
  if (shape.dim <= 64) launch(&flash::attend<64, Places>, flash::shared_bytes<64>());
  else launch(&flash::attend<128, Places>, flash::shared_bytes<128>());
}

}  // namespace outlast::gpu
