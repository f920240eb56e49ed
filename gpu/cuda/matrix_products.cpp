#include "gpu/cuda/matrix_products.hpp"

#include <algorithm>

namespace outlast::gpu {
namespace {

constexpr std::size_t algorithms_max = 16'384;  // micro-batches are of many sizes: then all are forgotten

// Destroyed with the scope. Creation that failed leaves null, and says why in `status`.
struct Layout {
  Layout(Dtype dtype, std::size_t rows, std::size_t columns, std::size_t stride) {
    status = cublasLtMatrixLayoutCreate(&layout, dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF, rows, columns, static_cast<std::int64_t>(stride));
  }
  ~Layout() {
    if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
  }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t layout = nullptr;
  cublasStatus_t status;
};

struct Description {
  Description(bool first_transposed, bool second_transposed) {
    status = cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    set(CUBLASLT_MATMUL_DESC_TRANSA, first_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, second_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  }
  ~Description() {
    if (description != nullptr) cublasLtMatmulDescDestroy(description);
  }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;
  void set(cublasLtMatmulDescAttributes_t attribute, cublasOperation_t operation) {
    if (status == CUBLAS_STATUS_SUCCESS) status = cublasLtMatmulDescSetAttribute(description, attribute, &operation, sizeof operation);
  }
  cublasLtMatmulDesc_t description = nullptr;
  cublasStatus_t status;
};

struct Preference {
  Preference() { status = cublasLtMatmulPreferenceCreate(&preference); }
  ~Preference() {
    if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
  }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, T value) {
    if (status == CUBLAS_STATUS_SUCCESS) status = cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value);
  }
  cublasLtMatmulPreference_t preference = nullptr;
  cublasStatus_t status;
};

// Of a matrix's first number, as cuBLASLt counts it.
std::uint32_t alignment_of(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data);
  return static_cast<std::uint32_t>(std::min<std::uintptr_t>(256, address & (~address + 1)));
}

}  // namespace

MatrixProducts::~MatrixProducts() {
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

cublasStatus_t MatrixProducts::start(void* workspace) {
  workspace_ = workspace;
  return cublasLtCreate(&handle_);
}

// cuBLASLt counts by columns: a row-major matrix is its transpose there, so outᵀ = bᵀ · aᵀ is what it computes.
cublasStatus_t MatrixProducts::run(cudaStream_t stream, CudaMatrix out, Operand a, Operand b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  if (handle_ == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Description description(b.transposed, a.transposed);
  const Layout first(b.matrix.dtype, b.transposed ? k : n, b.transposed ? n : k, b.matrix.stride);
  const Layout second(a.matrix.dtype, a.transposed ? m : k, a.transposed ? k : m, a.matrix.stride);
  const Layout result(out.dtype, n, m, out.stride);
  for (const cublasStatus_t status : {description.status, first.status, second.status, result.status}) {
    if (status != CUBLAS_STATUS_SUCCESS) return status;
  }
  const std::uint32_t alignments[] = {alignment_of(b.matrix.data), alignment_of(a.matrix.data), alignment_of(out.data)};
  const Key key{m, n, k, out.stride, a.matrix.stride, b.matrix.stride, static_cast<std::size_t>(a.transposed) * 2 + static_cast<std::size_t>(b.transposed),
                static_cast<std::size_t>(out.dtype), keep == 0 ? 0U : 1U, alignments[0], alignments[1], alignments[2]};
  auto known = algorithms_.find(key);
  if (known == algorithms_.end()) {
    Preference preference;
    preference.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, std::uint64_t{workspace_bytes});
    // A sum that is cut into parts is put together in fp32, and always in the same order.
    preference.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignments[0]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignments[1]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignments[2]);
    preference.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignments[2]);
    if (preference.status != CUBLAS_STATUS_SUCCESS) return preference.status;
    cublasLtMatmulHeuristicResult_t best{};
    int found = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle_, description.description, first.layout, second.layout, result.layout, result.layout,
                                                                 preference.preference, 1, &best, &found);
    if (status != CUBLAS_STATUS_SUCCESS) return status;
    if (found == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (algorithms_.size() >= algorithms_max) algorithms_.clear();
    known = algorithms_.emplace(key, best.algo).first;
  }
  const float one = 1;
  return cublasLtMatmul(handle_, description.description, &one, b.matrix.data, first.layout, a.matrix.data, second.layout, &keep, out.data, result.layout,
                        out.data, result.layout, &known->second, workspace_, workspace_bytes, stream);
}

cublasStatus_t MatrixProducts::product(cudaStream_t stream, CudaMatrix out, CudaMatrix a, CudaMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  return run(stream, out, {a, false}, {b, false}, m, n, k, keep);
}

cublasStatus_t MatrixProducts::product_bt(cudaStream_t stream, CudaMatrix out, CudaMatrix a, CudaMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep) {
  return run(stream, out, {a, false}, {b_t, true}, m, n, k, keep);
}

cublasStatus_t MatrixProducts::product_at(cudaStream_t stream, CudaMatrix out, CudaMatrix a_t, CudaMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep) {
  return run(stream, out, {a_t, true}, {b, false}, m, n, k, keep);
}

}  // namespace outlast::gpu
