// A GPU played by the CPU, so that the kernels of gpu/cuda/ run where there is none, and under the sanitizers. The sources are compiled
// by the ordinary compiler as they are, but for what translate.sed says, against the headers in include/, which have of CUDA's what we
// use. It is exact about what a kernel may rely on, and ends the program where one relies on more:
//
// - Threads of a block are fibers of one thread of the CPU. Each warp runs as far as it gets, warps and blocks in another order each
//   time, so what needs a barrier and has none comes out wrong.
// - A barrier, a shuffle or a matrix product that some thread never comes to is an error, as is a warp that does two things at once.
// - What is put on a stream waits there until somebody waits for the stream: host memory that is used again too early has changed.
// - Memory is the host's, so that AddressSanitizer sees each access beyond it. It holds NaNs until it is written.
//
// Nothing of it says how fast anything is.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>

namespace cuda_emulator {

inline constexpr unsigned warp_size = 32;

// Ends the program: a kernel, or a call, did what a GPU would not do.
[[noreturn]] void stop(std::string_view why);

// The thread that runs.
struct Thread {
  dim3 thread;
  dim3 block;
  dim3 block_size;
  dim3 grid_size;
  unsigned number = 0;  // in its block
  [[nodiscard]] unsigned lane() const { return number % warp_size; }
};
inline thread_local Thread* running_thread = nullptr;
inline Thread& current() { return *running_thread; }

// The block's memory that its launch asked for.
unsigned char* dynamic_shared();

// The whole block.
void barrier();
bool barrier_or(bool value);

// What the 32 threads of a warp do together: each gives where its part is, and the last to come computes for all.
using Together = void (*)(void* const (&parts)[warp_size]);
void together(Together what, void* part);

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared = 0;
  cudaStream_t stream = nullptr;
};
void launch(const LaunchShape& shape, std::function<void()> kernel);

// What `kernel<<<shape>>>` is translated to; called with the kernel's arguments.
template <class Kernel>
class Launcher {
 public:
  Launcher(const LaunchShape& shape, Kernel kernel) : shape_(shape), kernel_(kernel) {}
  template <class... Arguments>
  void operator()(Arguments... arguments) const {
    launch(shape_, [kernel = kernel_, arguments...] { kernel(arguments...); });
  }

 private:
  const LaunchShape shape_;
  const Kernel kernel_;
};

// Puts work on a stream; it is done when somebody waits. What waits for others itself is tried until it says that it is done.
void enqueue(cudaStream_t stream, std::function<void()> work);
void enqueue_trying(cudaStream_t stream, std::function<bool()> work);
int device_of_this_thread();
// What cudaGetLastError() tells next.
void failed(cudaError_t status);

}  // namespace cuda_emulator
