// cuBLASLt: matrices by columns, products of bf16 or fp32 numbers with sums in fp32.
#include <cublasLt.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/cuda_emulator/emulator.hpp"

struct EmulatedBlas {};
struct EmulatedLayout {
  cudaDataType type;
  std::size_t rows;
  std::size_t columns;
  std::size_t stride;
};
struct EmulatedMatmul {
  cublasOperation_t a = CUBLAS_OP_N;
  cublasOperation_t b = CUBLAS_OP_N;
};
struct EmulatedPreference {};

namespace {

float number_at(const void* data, const EmulatedLayout& layout, std::size_t row, std::size_t column) {
  const std::size_t at = column * layout.stride + row;
  if (layout.type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
}

void store(void* data, const EmulatedLayout& layout, std::size_t row, std::size_t column, float number) {
  const std::size_t at = column * layout.stride + row;
  if (layout.type == CUDA_R_32F) static_cast<float*>(data)[at] = number;
  else static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16_rn(number);
}

// The columns of op(matrix), one after another.
std::vector<float> columns_of(const void* data, const EmulatedLayout& layout, bool transposed) {
  std::vector<float> numbers(layout.rows * layout.columns);
  for (std::size_t column = 0; column < layout.columns; ++column) {
    for (std::size_t row = 0; row < layout.rows; ++row) {
      numbers[transposed ? row * layout.columns + column : column * layout.rows + row] = number_at(data, layout, row, column);
    }
  }
  return numbers;
}

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "CUBLAS_STATUS_UNKNOWN";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new EmulatedBlas;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, std::uint64_t rows, std::uint64_t columns, std::int64_t stride) {
  if (rows == 0 || columns == 0 || stride < static_cast<std::int64_t>(rows)) return CUBLAS_STATUS_INVALID_VALUE;
  *layout = new EmulatedLayout{type, rows, columns, static_cast<std::size_t>(stride)};
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute, cudaDataType scale) {
  if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  *description = new EmulatedMatmul;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, const void* value, std::size_t bytes) {
  cublasOperation_t& operation = attribute == CUBLASLT_MATMUL_DESC_TRANSA ? description->a : description->b;
  if (bytes != sizeof operation) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&operation, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
  delete description;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new EmulatedPreference;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t /*preference*/, cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* /*value*/, std::size_t bytes) {
  return bytes == (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t description, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t /*preference*/, int wanted,
                                              cublasLtMatmulHeuristicResult_t* results, int* found) {
  const std::size_t a_rows = description->a == CUBLAS_OP_T ? a->columns : a->rows;
  const std::size_t a_columns = description->a == CUBLAS_OP_T ? a->rows : a->columns;
  const std::size_t b_rows = description->b == CUBLAS_OP_T ? b->columns : b->rows;
  const std::size_t b_columns = description->b == CUBLAS_OP_T ? b->rows : b->columns;
  if (a_columns != b_rows || d->rows != a_rows || d->columns != b_columns || c->rows != d->rows || c->columns != d->columns || wanted < 1)
    return CUBLAS_STATUS_INVALID_VALUE;
  // As cuBLASLt has kernels for: operands alike, and a result like them or in fp32.
  if (a->type != b->type || c->type != d->type || (a->type == CUDA_R_32F && d->type != CUDA_R_32F)) return CUBLAS_STATUS_NOT_SUPPORTED;
  results[0] = {};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t /*handle*/, cublasLtMatmulDesc_t description, const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* /*algorithm*/, void* /*workspace*/, std::size_t /*workspace_bytes*/,
                              cudaStream_t stream) {
  const auto work = [a, b, c, d, operation = *description, left_layout = *a_layout, right_layout = *b_layout, old_layout = *c_layout, out_layout = *d_layout,
                     scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta)] {
    const std::vector<float> left = columns_of(a, left_layout, operation.a == CUBLAS_OP_T);
    const std::vector<float> right = columns_of(b, right_layout, operation.b == CUBLAS_OP_T);
    const std::size_t rows = out_layout.rows;
    const std::size_t depth = left.size() / rows;
    std::vector<float> sums(rows);
    for (std::size_t column = 0; column < out_layout.columns; ++column) {
      std::fill(sums.begin(), sums.end(), 0.0F);
      for (std::size_t k = 0; k < depth; ++k) {
        const float factor = right[column * depth + k];
        const float* const from = left.data() + k * rows;
        for (std::size_t row = 0; row < rows; ++row) sums[row] += from[row] * factor;
      }
      for (std::size_t row = 0; row < rows; ++row) {
        // Where nothing is kept, what was there is not read.
        const float kept = keep == 0 ? 0 : keep * number_at(c, old_layout, row, column);
        store(d, out_layout, row, column, scale * sums[row] + kept);
      }
    }
  };
  cuda_emulator::enqueue(stream, work);
  return CUBLAS_STATUS_SUCCESS;
}
