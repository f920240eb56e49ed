#include "gpu/cuda/nccl_collective.hpp"

#include <cstring>
#include <string>
#include <thread>

#include "core/check.hpp"
#include "gpu/cuda/cuda.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr auto poll_interval = std::chrono::microseconds(20);
constexpr std::size_t least_room = 1'024;  // numbers of sum()
constexpr const char* id_key = "nccl";

Failure lost(std::string why) { return fail(GpuError::peer_lost, std::move(why)); }

std::string text_of(cudaError_t status) { return std::string(cudaGetErrorName(status)) + ": " + cudaGetErrorString(status); }

// The first that is not well.
ncclResult_t both(ncclResult_t first, ncclResult_t second) { return first != ncclSuccess && first != ncclInProgress ? first : second; }

// Calls that NCCL does as one.
template <class Work>
ncclResult_t grouped(const Work& work) {
  ncclResult_t status = ncclGroupStart();
  if (status != ncclSuccess) return status;
  status = work();
  return both(status, ncclGroupEnd());
}

// Parts are of one size, but where the last ones are shorter.
bool are_even(std::size_t count, std::size_t ranks) {
  const Part last = part_of(count, ranks - 1, ranks);
  return last.count == part_of(count, 0, ranks).count;
}

}  // namespace

Result<std::unique_ptr<Collective>> make_nccl_collective(Device& device, Rendezvous& rendezvous, const Generation& generation, std::chrono::milliseconds patience) {
  auto* const cuda = dynamic_cast<CudaDevice*>(&device);
  check(cuda != nullptr, "NCCL is for CUDA devices");
  return NcclCollective::make(*cuda, rendezvous, generation, patience);
}

NcclCollective::NcclCollective(CudaDevice& device, Rendezvous& rendezvous, const Generation& generation, std::chrono::milliseconds patience)
    : device_(device), rendezvous_(rendezvous), generation_(generation), patience_(patience) {}

NcclCollective::~NcclCollective() {
  rendezvous_.unwatch();
  give_up();
  if (ready_ != nullptr) (void)cudaEventDestroy(ready_);
  if (done_ != nullptr) (void)cudaEventDestroy(done_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  (void)cudaFree(few_);
  (void)cudaFreeHost(few_here_);
}

Result<std::unique_ptr<Collective>> NcclCollective::make(CudaDevice& device, Rendezvous& rendezvous, const Generation& generation,
                                                         std::chrono::milliseconds patience) {
  check(generation.rank < generation.ranks, "a rank is one of the ranks");
  std::unique_ptr<NcclCollective> collective(new NcclCollective(device, rendezvous, generation, patience));
  if (Result<void> started = collective->start(); !started) return fail(std::move(started.error()));
  rendezvous.watch(generation.number, [raw = collective.get()] { raw->ended_ = true; });
  if (Result<void> connected = collective->connect(); !connected) {
    connected.error().message = "the ranks of generation " + std::to_string(generation.number) + " did not connect: " + connected.error().message;
    return fail(std::move(connected.error()));
  }
  return collective;
}

Result<void> NcclCollective::start() {
  for (const cudaError_t status : {cudaSetDevice(device_.number()), cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                                   cudaEventCreateWithFlags(&ready_, cudaEventDisableTiming), cudaEventCreateWithFlags(&done_, cudaEventDisableTiming)}) {
    if (status != cudaSuccess) return fail(GpuError::device, device_.name() + ": a stream for NCCL: " + text_of(status));
  }
  return give_room(least_room);
}

// The first rank's id is where the others find it.
Result<void> NcclCollective::connect() {
  ncclUniqueId id{};
  std::string bytes;
  if (rank() == 0) {
    if (const ncclResult_t status = ncclGetUniqueId(&id); status != ncclSuccess) return fail(GpuError::device, std::string("NCCL: ") + ncclGetErrorString(status));
    bytes.assign(id.internal, sizeof id.internal);
    if (Result<void> put = rendezvous_.put(generation_.number, id_key, bytes); !put) return put;
  } else {
    auto got = rendezvous_.get(generation_.number, id_key, patience_);
    if (!got) return fail(std::move(got.error()));
    bytes = std::move(*got);
    if (bytes.size() != sizeof id.internal) return lost("the first rank has an id of another kind");
    std::memcpy(id.internal, bytes.data(), bytes.size());
  }
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;  // a call returns at once, and can be given up
  const ncclResult_t status = ncclCommInitRankConfig(&comm_, static_cast<int>(ranks()), id, static_cast<int>(rank()), &config);
  if (status == ncclInvalidArgument || status == ncclInvalidUsage)
    return fail(GpuError::device, std::string("NCCL: ") + ncclGetErrorString(status) + "; ranks have a GPU each");
  Result<void> taken = wait_until_taken(status);
  if (!taken) give_up();
  return taken;
}

Result<void> NcclCollective::wait_on(SteadyClock::time_point deadline) const {
  if (ended_) return lost("a rank is gone");
  if (SteadyClock::now() >= deadline) return lost("a rank did not come within " + std::to_string(patience_.count()) + " ms");
  std::this_thread::sleep_for(poll_interval);
  return {};
}

Result<void> NcclCollective::wait_until_taken(ncclResult_t status) {
  const auto deadline = SteadyClock::now() + patience_;
  while (status == ncclInProgress) {
    if (Result<void> waited = wait_on(deadline); !waited) return waited;
    if (const ncclResult_t asked = ncclCommGetAsyncError(comm_, &status); asked != ncclSuccess) status = asked;
  }
  if (status != ncclSuccess) return lost(std::string("NCCL: ") + ncclGetErrorString(status));
  return {};
}

Result<void> NcclCollective::wait_until_done() {
  const auto deadline = SteadyClock::now() + patience_;
  for (;;) {
    const cudaError_t status = cudaEventQuery(done_);
    if (status == cudaSuccess) return {};
    if (status != cudaErrorNotReady) return lost(text_of(status));
    ncclResult_t health = ncclSuccess;
    if (ncclCommGetAsyncError(comm_, &health) != ncclSuccess || (health != ncclSuccess && health != ncclInProgress))
      return lost(std::string("NCCL: ") + ncclGetErrorString(health));
    if (Result<void> waited = wait_on(deadline); !waited) return waited;
  }
}

template <class Work>
Result<void> NcclCollective::run(const char* what, const Work& work) {
  const Mark mark = std::exchange(mark_, nullptr);
  const auto steps = [&]() -> Result<void> {
    if (ended_ || comm_ == nullptr) return lost("a rank is gone");
    const auto event = mark ? static_cast<cudaEvent_t>(const_cast<void*>(mark.get())) : ready_;
    for (const cudaError_t status : {cudaSetDevice(device_.number()), mark ? cudaSuccess : cudaEventRecord(ready_, device_.operations()), cudaStreamWaitEvent(stream_, event, 0)}) {
      if (status != cudaSuccess) return lost(text_of(status));
    }
    if (Result<void> taken = wait_until_taken(work()); !taken) return taken;
    if (const cudaError_t status = cudaEventRecord(done_, stream_); status != cudaSuccess) return lost(text_of(status));
    return wait_until_done();
  };
  Result<void> done = steps();
  if (done) return done;
  ended_ = true;
  give_up();
  return lost(std::string(what) + " of generation " + std::to_string(generation_.number) + ": " + done.error().message);
}

// Without one, where CUDA has none to give, an operation waits for all: later, and right.
Collective::Mark NcclCollective::mark() {
  cudaEvent_t event = nullptr;
  if (cudaSetDevice(device_.number()) != cudaSuccess || cudaEventCreateWithFlags(&event, cudaEventDisableTiming) != cudaSuccess) return nullptr;
  Mark made(event, [event](const void*) { (void)cudaEventDestroy(event); });
  return cudaEventRecord(event, device_.operations()) == cudaSuccess ? made : nullptr;
}

void NcclCollective::give_up() {
  (void)cudaSetDevice(device_.number());
  if (comm_ != nullptr) (void)ncclCommAbort(comm_);
  comm_ = nullptr;
  if (stream_ != nullptr) (void)cudaStreamSynchronize(stream_);
}

Result<void> NcclCollective::all_reduce_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32 || numbers.empty(), "ranks sum numbers in f32");
  return run("a sum", [&] { return numbers.empty() ? ncclSuccess : ncclAllReduce(numbers.data, numbers.data, numbers.count, ncclFloat32, ncclSum, comm_, stream_); });
}

Result<void> NcclCollective::reduce_scatter_sum(const Array& numbers) {
  check(numbers.dtype == Dtype::f32 || numbers.empty(), "ranks sum numbers in f32");
  return run("a sum in parts", [&] {
    if (numbers.empty()) return ncclSuccess;
    if (are_even(numbers.count, ranks())) {
      const Part own = part_of(numbers.count, rank(), ranks());
      return ncclReduceScatter(numbers.data, numbers.part(own.begin, own.count).data, own.count, ncclFloat32, ncclSum, comm_, stream_);
    }
    return grouped([&] {
      ncclResult_t status = ncclSuccess;
      for (std::size_t root = 0; root < ranks(); ++root) {
        const Part part = part_of(numbers.count, root, ranks());
        const Array array = numbers.part(part.begin, part.count);
        if (part.count > 0) status = both(status, ncclReduce(array.data, array.data, part.count, ncclFloat32, ncclSum, static_cast<int>(root), comm_, stream_));
      }
      return status;
    });
  });
}

Result<void> NcclCollective::all_gather(const Array& numbers) {
  return run("a gathering", [&] {
    if (numbers.empty()) return ncclSuccess;
    const std::size_t size = size_of(numbers.dtype);
    if (are_even(numbers.count, ranks())) {
      const Part own = part_of(numbers.count, rank(), ranks());
      return ncclAllGather(numbers.part(own.begin, own.count).data, numbers.data, own.count * size, ncclUint8, comm_, stream_);
    }
    return grouped([&] {
      ncclResult_t status = ncclSuccess;
      for (std::size_t root = 0; root < ranks(); ++root) {
        const Part part = part_of(numbers.count, root, ranks());
        void* const data = numbers.part(part.begin, part.count).data;
        if (part.count > 0) status = both(status, ncclBroadcast(data, data, part.count * size, ncclUint8, static_cast<int>(root), comm_, stream_));
      }
      return status;
    });
  });
}

Result<void> NcclCollective::broadcast(const Array& numbers, std::size_t root) {
  return run("a broadcast", [&] {
    return numbers.empty() ? ncclSuccess : ncclBroadcast(numbers.data, numbers.data, numbers.bytes(), ncclUint8, static_cast<int>(root), comm_, stream_);
  });
}

Result<void> NcclCollective::pass_on(const Array& to_next, const Array& from_previous) {
  check(ranks() > 1, "a rank alone has no other one");
  return run("a copy for the next rank", [&] {
    return grouped([&] {
      ncclResult_t status = ncclSuccess;
      const auto next = static_cast<int>((rank() + 1) % ranks());
      const auto previous = static_cast<int>((rank() + ranks() - 1) % ranks());
      if (!to_next.empty()) status = ncclSend(to_next.data, to_next.bytes(), ncclUint8, next, comm_, stream_);
      if (!from_previous.empty()) status = both(status, ncclRecv(from_previous.data, from_previous.bytes(), ncclUint8, previous, comm_, stream_));
      return status;
    });
  });
}

Result<void> NcclCollective::give_room(std::size_t count) {
  if (count <= room_) return {};
  (void)cudaFree(few_);
  (void)cudaFreeHost(few_here_);
  few_ = nullptr;
  few_here_ = nullptr;
  room_ = 0;
  void* there = nullptr;
  void* here = nullptr;
  for (const cudaError_t status : {cudaSetDevice(device_.number()), cudaMalloc(&there, count * sizeof(double)), cudaMallocHost(&here, count * sizeof(double))}) {
    if (status != cudaSuccess) return fail(GpuError::device, device_.name() + ": memory for sums over ranks: " + text_of(status));
  }
  few_ = static_cast<double*>(there);
  few_here_ = static_cast<double*>(here);
  room_ = count;
  return {};
}

Result<void> NcclCollective::sum(std::span<double> numbers) {
  if (Result<void> given = give_room(numbers.size()); !given) return given;
  std::memcpy(few_here_, numbers.data(), numbers.size_bytes());
  Result<void> done = run("a sum of few numbers", [&] {
    if (cudaMemcpyAsync(few_, few_here_, numbers.size_bytes(), cudaMemcpyHostToDevice, stream_) != cudaSuccess) return ncclUnhandledCudaError;
    const ncclResult_t status = ncclAllReduce(few_, few_, numbers.size(), ncclFloat64, ncclSum, comm_, stream_);
    if (Result<void> taken = wait_until_taken(status); !taken) return ncclRemoteError;
    return cudaMemcpyAsync(few_here_, few_, numbers.size_bytes(), cudaMemcpyDeviceToHost, stream_) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
  });
  if (done) std::memcpy(numbers.data(), few_here_, numbers.size_bytes());
  return done;
}

}  // namespace outlast::gpu
