// Matrix products of bf16 numbers with sums in fp32, by cuBLASLt. What it thinks best for a shape is asked for once.
#pragma once

#include <cublasLt.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>

#include "gpu/files/dtype.hpp"

namespace outlast::gpu {

// A matrix in a device's memory, row-major: `stride` numbers from one row to the next.
struct CudaMatrix {
  void* data = nullptr;
  std::size_t stride = 0;
  Dtype dtype = Dtype::bf16;
};

// One owner.
class MatrixProducts {
 public:
  MatrixProducts() = default;
  ~MatrixProducts();
  MatrixProducts(const MatrixProducts&) = delete;
  MatrixProducts& operator=(const MatrixProducts&) = delete;

  // `workspace`: device memory of workspace_bytes, for one product at a time.
  static constexpr std::size_t workspace_bytes = 32U << 20;
  cublasStatus_t start(void* workspace);

  // out[m, n] = a · b + keep · out, with a [m, k] and b [k, n]; a `_t` operand lies in memory transposed. None of the sizes is 0.
  cublasStatus_t product(cudaStream_t stream, CudaMatrix out, CudaMatrix a, CudaMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep = 0);
  cublasStatus_t product_bt(cudaStream_t stream, CudaMatrix out, CudaMatrix a, CudaMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep = 0);
  cublasStatus_t product_at(cudaStream_t stream, CudaMatrix out, CudaMatrix a_t, CudaMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep = 0);

 private:
  struct Operand {
    CudaMatrix matrix;
    bool transposed = false;
  };
  // Everything that the choice of an algorithm depends on.
  using Key = std::array<std::size_t, 12>;
  cublasStatus_t run(cudaStream_t stream, CudaMatrix out, Operand a, Operand b, std::size_t m, std::size_t n, std::size_t k, float keep);

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, cublasLtMatmulAlgo_t> algorithms_;
};

}  // namespace outlast::gpu
