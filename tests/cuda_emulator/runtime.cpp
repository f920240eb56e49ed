// CUDA's runtime: devices, memory, streams.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
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

struct Streams {
  std::mutex mutex;
  std::set<cudaStream_t> all;
};
Streams& streams() {
  static Streams streams;
  return streams;
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
  std::deque<std::function<bool()>> work;
  EmulatedGraph* recording = nullptr;

  // As far as it gets, or is wanted; false: something waits.
  bool advance(const std::function<bool()>& is_enough = [] { return false; }) {
    const std::lock_guard lock(mutex);
    if (recording != nullptr) cuda_emulator::stop("a stream is waited for while it records a graph");
    while (!work.empty() && !is_enough()) {
      const std::function<bool()> next = work.front();
      if (!next()) return false;
      work.pop_front();
    }
    return true;
  }
  void drain() {
    while (!advance()) std::this_thread::yield();
  }
};

struct EmulatedGraph {
  std::vector<std::function<bool()>> work;
};

// Streams know it for as long as they need it, as those of CUDA do.
struct EventState {
  cudaStream_t stream = nullptr;  // which recorded it last
  std::atomic<std::uint64_t> recorded{0};
  std::atomic<std::uint64_t> reached{0};
  // Whether all is done that was on the stream when it was recorded; what came on it later is left there.
  bool is_reached(std::uint64_t number) {
    if (reached < number) (void)stream->advance([this, number] { return reached >= number; });
    return reached >= number;
  }
};
struct EmulatedEvent {
  std::shared_ptr<EventState> state = std::make_shared<EventState>();
};

namespace {

std::vector<cudaStream_t> streams_of_device() {
  const std::lock_guard lock(streams().mutex);
  std::vector<cudaStream_t> mine;
  std::copy_if(streams().all.begin(), streams().all.end(), std::back_inserter(mine), [](const EmulatedStream* stream) { return stream->device == current_device; });
  return mine;
}

bool is_recording() {
  const auto mine = streams_of_device();
  return std::any_of(mine.begin(), mine.end(), [](const EmulatedStream* stream) { return stream->recording != nullptr; });
}

}  // namespace

namespace cuda_emulator {

void failed(cudaError_t status) { (void)told(status); }
int device_of_this_thread() { return current_device; }

void enqueue_trying(cudaStream_t stream, std::function<bool()> work) {
  if (stream == nullptr) stop("the default stream is used");
  const std::lock_guard lock(stream->mutex);
  if (stream->recording != nullptr) stream->recording->work.push_back(std::move(work));
  else stream->work.push_back(std::move(work));
}

void enqueue(cudaStream_t stream, std::function<void()> work) {
  enqueue_trying(stream, [work = std::move(work)] {
    work();
    return true;
  });
}

}  // namespace cuda_emulator

const char* cudaGetErrorName(cudaError_t status) {
  switch (status) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration: return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
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

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  if (is_recording()) cuda_emulator::stop("memory is allocated while a graph is recorded");
  return allocate(data, bytes);
}
cudaError_t cudaFree(void* data) {
  (void)cudaDeviceSynchronize();
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMallocHost(void** data, std::size_t bytes) { return allocate(data, bytes); }
cudaError_t cudaFreeHost(void* data) {
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
  const std::lock_guard lock(streams().mutex);
  streams().all.insert(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  stream->drain();
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  stream->drain();
  const std::lock_guard lock(streams().mutex);
  streams().all.erase(stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  for (EmulatedStream* const stream : streams_of_device()) stream->drain();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  if (flags != cudaEventDisableTiming) return told(cudaErrorInvalidValue);
  *event = new EmulatedEvent;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->state->stream = stream;
  const std::uint64_t number = ++event->state->recorded;
  cuda_emulator::enqueue(stream, [state = event->state, number] { state->reached = number; });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return event->state->is_reached(event->state->recorded) ? cudaSuccess : cudaErrorNotReady; }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned /*flags*/) {
  cuda_emulator::enqueue_trying(stream, [state = event->state, number = event->state->recorded.load()] { return state->is_reached(number); });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode /*mode*/) {
  if (stream->recording != nullptr) return told(cudaErrorInvalidValue);
  stream->recording = new EmulatedGraph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->recording, nullptr);
  return *graph != nullptr ? cudaSuccess : told(cudaErrorInvalidValue);
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long /*flags*/) {
  *executable = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  for (const auto& work : executable->work) cuda_emulator::enqueue_trying(stream, work);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* /*kernel*/) {
  attributes->maxThreadsPerBlock = 1'024;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* /*kernel*/, cudaFuncAttribute /*attribute*/, int value) {
  return value <= 227 << 10 ? cudaSuccess : told(cudaErrorInvalidValue);
}
