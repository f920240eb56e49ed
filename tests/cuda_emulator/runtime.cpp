// CUDA's runtime: devices, memory, streams.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <cstdio>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "tests/cuda_emulator/emulator.hpp"

namespace {

constexpr int devices = 4;
constexpr std::size_t memory_bytes = std::size_t{8} << 30;
constexpr std::size_t alignment = 256;
constexpr int unwritten = 0xFF;

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

struct Allocations {
  std::mutex mutex;
  std::set<void*> locked;
  std::set<cudaStream_t> streams;
};
Allocations& allocations() {
  static Allocations all;
  return all;
}

cudaError_t told(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

cudaError_t allocate(void** data, std::size_t bytes) {
  if (bytes > memory_bytes) return told(cudaErrorMemoryAllocation);
  *data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (*data == nullptr) return told(cudaErrorMemoryAllocation);
  std::memset(*data, unwritten, bytes);
  return cudaSuccess;
}

}  // namespace

struct EmulatedStream {
  int device = 0;
  std::recursive_mutex mutex;  // held while it works
  std::deque<std::function<void()>> work;

  void drain() {
    const std::lock_guard lock(mutex);
    while (!work.empty()) {
      const std::function<void()> next = std::move(work.front());
      work.pop_front();
      next();
    }
  }
};

namespace cuda_emulator {

void failed(cudaError_t status) { (void)told(status); }

void enqueue(cudaStream_t stream, std::function<void()> work) {
  if (stream == nullptr) stop("the default stream is used");
  const std::lock_guard lock(stream->mutex);
  stream->work.push_back(std::move(work));
}

}  // namespace cuda_emulator

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
  }
  return "cudaErrorUnknown";
}
const char* cudaGetErrorString(cudaError_t /*status*/) { return "an emulated failure"; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= devices) return told(cudaErrorInvalidDevice);
  *properties = {"emulated", 9, 0, 3};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* bus, int size, int device) {
  std::snprintf(bus, static_cast<std::size_t>(size), "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr /*attribute*/, int /*device*/) {
  *value = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return told(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = memory_bytes;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) { return allocate(data, bytes); }
cudaError_t cudaFree(void* data) {
  (void)cudaDeviceSynchronize();
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, std::size_t bytes) {
  const cudaError_t status = allocate(data, bytes);
  if (status == cudaSuccess) {
    const std::lock_guard lock(allocations().mutex);
    allocations().locked.insert(*data);
  }
  return status;
}
cudaError_t cudaFreeHost(void* data) {
  const std::lock_guard lock(allocations().mutex);
  allocations().locked.erase(data);
  std::free(data);
  return cudaSuccess;
}

// What comes from the host is read when the copy runs, as with locked memory; of other memory CUDA promises no more for large copies.
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind /*kind*/, cudaStream_t stream) {
  cuda_emulator::enqueue(stream, [to, from, bytes] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
  cuda_emulator::enqueue(stream, [data, value, bytes] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) return told(cudaErrorInvalidValue);
  *stream = new EmulatedStream;
  (*stream)->device = current_device;
  const std::lock_guard lock(allocations().mutex);
  allocations().streams.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream->drain();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->drain();
  const std::lock_guard lock(allocations().mutex);
  allocations().streams.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  std::vector<cudaStream_t> mine;
  {
    const std::lock_guard lock(allocations().mutex);
    std::copy_if(allocations().streams.begin(), allocations().streams.end(), std::back_inserter(mine),
                 [](const EmulatedStream* stream) { return stream->device == current_device; });
  }
  for (EmulatedStream* const stream : mine) stream->drain();
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* /*kernel*/) {
  attributes->maxThreadsPerBlock = 1'024;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* /*kernel*/, cudaFuncAttribute /*attribute*/, int value) {
  return value <= 227 << 10 ? cudaSuccess : told(cudaErrorInvalidValue);
}
