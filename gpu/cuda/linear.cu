#include "gpu/cuda/cuda_device.hpp"
#include "gpu/cuda/kernel.cuh"

namespace outlast::gpu {
namespace {

constexpr unsigned threads = 256;

// out [rows, width] = bias, in each row
__global__ void repeat(bf16* out, const bf16* bias, std::size_t count, std::size_t width) {
  const std::size_t i = std::size_t{blockIdx.x} * threads + threadIdx.x;
  if (i < count) out[i] = bias[i % width];
}

}  // namespace

void CudaDevice::run(const Linear& operation) {
  const std::size_t rows = operation.out.count / operation.outputs;
  if (rows == 0) return;
  const bool adds = !operation.bias.empty();
  if (adds) {
    // The product is added to it before it is rounded.
    repeat<<<static_cast<unsigned>(divided_up<std::size_t>(operation.out.count, threads)), threads, 0, stream()>>>(bf16_of(operation.out), bf16_of(operation.bias),
                                                                                                                  operation.out.count, operation.outputs);
    launched("a linear map's bias");
  }
  keep(products_.product_bt(stream(), {operation.out.data, operation.outputs}, {operation.x.data, operation.inputs}, {operation.weight.data, operation.inputs}, rows,
                            operation.outputs, operation.inputs, adds ? 1.0F : 0.0F),
       "a linear map");
}

void CudaDevice::run(const LinearBackward& operation) {
  const std::size_t inputs = operation.inputs;
  const std::size_t outputs = operation.outputs;
  const std::size_t rows = operation.d_out.count / outputs;
  if (rows == 0) return;
  const CudaMatrix d_out{operation.d_out.data, outputs};
  if (!operation.d_x.empty()) {
    keep(products_.product(stream(), {operation.d_x.data, inputs}, d_out, {operation.weight.data, inputs}, rows, inputs, outputs), "a linear map's gradient");
  }
  if (!operation.d_weight.empty()) {
    keep(products_.product_at(stream(), {operation.d_weight.data, inputs, Dtype::f32}, d_out, {operation.x.data, inputs}, outputs, inputs, rows, 1),
         "the gradient of a linear map's weights");
  }
  if (!operation.d_bias.empty()) add_columns(operation.d_bias.as<float>(), operation.d_out.data, Dtype::bf16, rows, outputs, outputs);
}

}  // namespace outlast::gpu
