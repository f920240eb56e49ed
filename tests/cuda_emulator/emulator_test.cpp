// That the emulated GPU finds what a kernel does wrong: else its tests would prove nothing.
#include <cuda_runtime.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <vector>

namespace cuda_emulator::emulator_test {
namespace {

constexpr unsigned threads = 128;

struct Stream {
  Stream() { REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess); }
  ~Stream() { (void)cudaStreamDestroy(stream); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  void run(std::function<void()> kernel) {
    launch({1, threads, threads * sizeof(int), stream}, std::move(kernel));
    REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  }
  cudaStream_t stream = nullptr;
};

// Whether a kernel ends the program that runs it.
bool is_stopped(const std::function<void()>& kernel) {
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);
    (void)std::freopen("/dev/null", "w", stderr);
    Stream().run(kernel);
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

TEST_CASE("an emulated block passes numbers on with a barrier, and not without it", "[cuda_emulator]") {
  const bool waits = GENERATE(true, false);
  std::vector<int> out(threads, -1);
  Stream().run([&out, waits] {
    auto* const shared = reinterpret_cast<int*>(dynamic_shared());
    const unsigned own = threadIdx.x;
    shared[own] = static_cast<int>(own);
    if (waits) __syncthreads();
    out[own] = shared[threads - 1 - own];
  });
  std::vector<int> expected(threads);
  for (unsigned i = 0; i < threads; ++i) expected[i] = static_cast<int>(threads - 1 - i);
  CHECK((out == expected) == waits);
}

TEST_CASE("an emulated block may not write again what others have still to read", "[cuda_emulator]") {
  const bool waits = GENERATE(true, false);
  std::vector<int> sums(threads);
  Stream().run([&sums, waits] {
    auto* const shared = reinterpret_cast<int*>(dynamic_shared());
    for (int round = 0; round < 4; ++round) {
      if (waits) __syncthreads();
      shared[threadIdx.x] = round;
      __syncthreads();
      sums[threadIdx.x] += shared[(threadIdx.x + threads / 2) % threads];
    }
  });
  CHECK((sums == std::vector<int>(threads, 6)) == waits);
}

TEST_CASE("an emulated warp shuffles, and stops where a thread is missing", "[cuda_emulator]") {
  std::vector<float> out(threads);
  Stream().run([&out] { out[threadIdx.x] = __shfl_xor_sync(0xFFFF'FFFFU, static_cast<float>(threadIdx.x), 5); });
  CHECK(out[32 + 8] == 32 + (8 ^ 5));
  CHECK(is_stopped([] {
    if (threadIdx.x == 40) return;
    (void)__shfl_xor_sync(0xFFFF'FFFFU, 1.0F, 1);
  }));
  CHECK(is_stopped([] {
    if (threadIdx.x < 8) __syncthreads();
    else (void)__shfl_xor_sync(0xFFFF'FFFFU, 1.0F, 1);
  }));
  CHECK_FALSE(is_stopped([] { (void)__shfl_xor_sync(0xFFFF'FFFFU, 1.0F, 1); }));
}

TEST_CASE("an emulated stream reads memory when it comes to it", "[cuda_emulator]") {
  const Stream stream;
  int from = 1;
  int to = 0;
  REQUIRE(cudaMemcpyAsync(&to, &from, sizeof from, cudaMemcpyHostToDevice, stream.stream) == cudaSuccess);
  from = 2;
  CHECK(to == 0);
  REQUIRE(cudaStreamSynchronize(stream.stream) == cudaSuccess);
  CHECK(to == 2);
}

TEST_CASE("an emulated device refuses a launch that none would take", "[cuda_emulator]") {
  const Stream stream;
  for (const LaunchShape& shape : {LaunchShape{0, 32}, LaunchShape{1, 2'048}, LaunchShape{1, 32, 300'000}}) {
    launch({shape.grid, shape.block, shape.shared, stream.stream}, [] {});
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    CHECK(cudaGetLastError() == cudaSuccess);
  }
}

}  // namespace
}  // namespace cuda_emulator::emulator_test
