#include "gpu/cpu/blas.hpp"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr int row_major = 101;  // CBLAS's numbers
constexpr int plain = 111;
constexpr int transposed = 112;

// OpenBLAS 0.3.21 takes a processor that is newer than itself for an old one, at half the speed. It reads this variable
// when it is loaded, which is why it is loaded here and not linked.
void name_kernels() {
#if defined(__x86_64__)
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
  if (wide) ::setenv("OPENBLAS_CORETYPE", "SkylakeX", 0);
#endif
}

int number(std::size_t size) { return static_cast<int>(size); }

}  // namespace

Result<const Blas*> Blas::load() {
  static std::mutex mutex;
  static const Blas* loaded = nullptr;
  const std::lock_guard lock(mutex);
  if (loaded == nullptr) {
    auto now = load_now();
    if (!now) return now;
    loaded = *now;
  }
  return loaded;
}

Result<const Blas*> Blas::load_now() {
  name_kernels();
  void* const library = ::dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return fail(GpuError::device, std::string("OpenBLAS cannot be loaded (install libopenblas0): ") + ::dlerror());
  static Blas blas;
  blas.gemm_ = reinterpret_cast<Gemm>(::dlsym(library, "cblas_sgemm"));
  const auto set_threads = reinterpret_cast<void (*)(int)>(::dlsym(library, "openblas_set_num_threads"));
  if (blas.gemm_ == nullptr || set_threads == nullptr)
    return fail(GpuError::device, "the library libopenblas.so.0 is not OpenBLAS");
  set_threads(1);  // Threads cuts the work
  return &blas;
}

void Blas::product(Matrix out, ConstMatrix a, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep, float scale) const {
  gemm_(row_major, plain, plain, number(m), number(n), number(k), scale, a.data, number(a.stride), b.data, number(b.stride), keep, out.data, number(out.stride));
}

void Blas::product_bt(Matrix out, ConstMatrix a, ConstMatrix b_t, std::size_t m, std::size_t n, std::size_t k, float keep, float scale) const {
  gemm_(row_major, plain, transposed, number(m), number(n), number(k), scale, a.data, number(a.stride), b_t.data, number(b_t.stride), keep, out.data, number(out.stride));
}

void Blas::product_at(Matrix out, ConstMatrix a_t, ConstMatrix b, std::size_t m, std::size_t n, std::size_t k, float keep, float scale) const {
  gemm_(row_major, transposed, plain, number(m), number(n), number(k), scale, a_t.data, number(a_t.stride), b.data, number(b.stride), keep, out.data, number(out.stride));
}

}  // namespace outlast::gpu
