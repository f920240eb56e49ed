// NCCL between threads of one process. An operation waits in its stream until it has come in the streams of all ranks.
#include <nccl.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/cuda_emulator/emulator.hpp"

namespace {

enum class Kind { reduce, broadcast, all_reduce, reduce_scatter, all_gather, send };

struct Call {
  Kind kind = Kind::all_reduce;
  std::size_t count = 0;
  ncclDataType_t type = ncclFloat32;
  int root = 0;  // of a send: to whom
  bool operator==(const Call&) const = default;
};

struct Part {
  const void* from = nullptr;
  void* to = nullptr;
};

struct Operation {
  Call call;
  std::map<int, Part> parts;  // by rank
  bool done = false;
};

// The ranks of one id.
struct Meeting {
  std::mutex mutex;
  int ranks = 0;
  std::map<int, int> devices;                          // by rank
  std::map<std::uint64_t, Operation> operations;       // that all call, by their number
  std::map<std::string, Operation> letters;            // from one to another
};

std::size_t bytes_of(ncclDataType_t type) { return type == ncclUint8 ? 1 : type == ncclFloat32 ? 4 : 8; }

template <class T>
std::vector<std::byte> sum_of(const Operation& operation, std::size_t begin) {
  std::vector<T> sums(operation.call.count);
  for (const auto& [rank, part] : operation.parts) {
    const T* const from = static_cast<const T*>(part.from) + begin;
    for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += from[i];
  }
  std::vector<std::byte> bytes(sums.size() * sizeof(T));
  std::memcpy(bytes.data(), sums.data(), bytes.size());
  return bytes;
}

std::vector<std::byte> sum(const Operation& operation, std::size_t begin = 0) {
  if (operation.call.type == ncclUint8) cuda_emulator::stop("NCCL sums bytes");
  return operation.call.type == ncclFloat32 ? sum_of<float>(operation, begin) : sum_of<double>(operation, begin);
}

// All have come.
void compute(Operation& operation) {
  const Call& call = operation.call;
  const std::size_t bytes = call.count * bytes_of(call.type);
  const auto give = [bytes](const Part& part, const void* from, std::size_t offset = 0) { std::memmove(static_cast<std::byte*>(part.to) + offset, from, bytes); };
  switch (call.kind) {
    case Kind::reduce: give(operation.parts.at(call.root), sum(operation).data()); break;
    case Kind::all_reduce: {
      const auto sums = sum(operation);
      for (const auto& [rank, part] : operation.parts) give(part, sums.data());
      break;
    }
    case Kind::broadcast:
      for (const auto& [rank, part] : operation.parts) give(part, operation.parts.at(call.root).from);
      break;
    case Kind::reduce_scatter: {
      std::map<int, std::vector<std::byte>> sums;
      for (const auto& [rank, part] : operation.parts) sums[rank] = sum(operation, static_cast<std::size_t>(rank) * call.count);
      for (const auto& [rank, part] : operation.parts) give(part, sums[rank].data());
      break;
    }
    case Kind::all_gather:
      for (const auto& [to, part] : operation.parts) {
        for (const auto& [from, given] : operation.parts) give(part, given.from, static_cast<std::size_t>(from) * bytes);
      }
      break;
    case Kind::send: break;
  }
  operation.done = true;
}

std::mutex meetings_mutex;
std::map<std::string, std::shared_ptr<Meeting>> meetings;
std::uint64_t ids = 0;

}  // namespace

struct EmulatedComm {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  std::uint64_t next = 0;              // number of its operations
  std::map<std::string, std::uint64_t> letters;
  std::shared_ptr<bool> aborted = std::make_shared<bool>(false);  // with the meeting's mutex
};

namespace {

using Work = std::function<bool()>;
struct Group {
  int depth = 0;
  std::vector<Work> work;
  cudaStream_t stream = nullptr;
};
thread_local Group group;

ncclResult_t put(cudaStream_t stream, Work work) {
  if (group.depth == 0) {
    cuda_emulator::enqueue_trying(stream, std::move(work));
    return ncclSuccess;
  }
  group.stream = stream;
  group.work.push_back(std::move(work));
  return ncclSuccess;
}

// Of all ranks.
ncclResult_t call(ncclComm_t comm, const Call& what, Part part, cudaStream_t stream) {
  return put(stream, [meeting = comm->meeting, aborted = comm->aborted, rank = comm->rank, number = comm->next++, what, part] {
    const std::lock_guard lock(meeting->mutex);
    if (*aborted) return true;
    Operation& operation = meeting->operations[number];
    if (operation.parts.empty()) operation.call = what;
    if (operation.call != what) cuda_emulator::stop("ranks call different operations of NCCL");
    operation.parts.emplace(rank, part);
    if (!operation.done && operation.parts.size() == static_cast<std::size_t>(meeting->ranks)) compute(operation);
    return operation.done;
  });
}

// Of one that sends and one that receives.
ncclResult_t mail(ncclComm_t comm, int from, int to, std::size_t bytes, Part part, cudaStream_t stream) {
  const std::string way = std::to_string(from) + " to " + std::to_string(to);
  const std::string key = way + " " + std::to_string(comm->letters[way + (part.from != nullptr ? " sent" : " got")]++);
  return put(stream, [meeting = comm->meeting, aborted = comm->aborted, key, bytes, part] {
    const std::lock_guard lock(meeting->mutex);
    if (*aborted) return true;
    Operation& letter = meeting->letters[key];
    const Call what{Kind::send, bytes, ncclUint8, 0};
    if (letter.parts.empty()) letter.call = what;
    if (letter.call != what) cuda_emulator::stop("more is sent by NCCL than is received, or less");
    letter.parts.emplace(part.from != nullptr ? 0 : 1, part);
    if (!letter.done && letter.parts.size() == 2) {
      std::memcpy(letter.parts.at(1).to, letter.parts.at(0).from, bytes);
      letter.done = true;
    }
    return letter.done;
  });
}

}  // namespace

const char* ncclGetErrorString(ncclResult_t status) {
  switch (status) {
    case ncclSuccess: return "no error";
    case ncclUnhandledCudaError: return "unhandled cuda error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "remote process exited or there was a network error";
    case ncclInProgress: return "in progress";
  }
  return "unknown";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  const std::lock_guard lock(meetings_mutex);
  *id = {};
  std::memcpy(id->internal, &++ids, sizeof ids);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t* config) {
  if (config->blocking != 0 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  std::shared_ptr<Meeting> meeting;
  {
    const std::lock_guard lock(meetings_mutex);
    auto& known = meetings[std::string(id.internal, sizeof id.internal)];
    if (!known) known = std::make_shared<Meeting>();
    meeting = known;
  }
  const std::lock_guard lock(meeting->mutex);
  meeting->ranks = ranks;
  const int device = cuda_emulator::device_of_this_thread();
  for (const auto& [other, its] : meeting->devices) {
    if (its == device) return ncclInvalidUsage;  // a GPU is one rank's
  }
  meeting->devices[rank] = device;
  *comm = new EmulatedComm{meeting, rank};
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  const std::lock_guard lock(comm->meeting->mutex);
  *status = comm->meeting->devices.size() == static_cast<std::size_t>(comm->meeting->ranks) ? ncclSuccess : ncclInProgress;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const std::lock_guard lock(comm->meeting->mutex);
    *comm->aborted = true;
  }
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0 || group.work.empty()) return ncclSuccess;
  // None of them waits for another.
  cuda_emulator::enqueue_trying(group.stream, [work = std::move(group.work)] {
    bool done = true;
    for (const Work& one : work) done = one() && done;
    return done;
  });
  group.work.clear();
  return ncclSuccess;
}

ncclResult_t ncclReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t /*how*/, int root, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, {Kind::reduce, count, type, root}, {from, to}, stream);
}
ncclResult_t ncclBroadcast(const void* from, void* to, std::size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, {Kind::broadcast, count, type, root}, {from, to}, stream);
}
ncclResult_t ncclAllReduce(const void* from, void* to, std::size_t count, ncclDataType_t type, ncclRedOp_t /*how*/, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, {Kind::all_reduce, count, type, 0}, {from, to}, stream);
}
ncclResult_t ncclReduceScatter(const void* from, void* to, std::size_t count_of_part, ncclDataType_t type, ncclRedOp_t /*how*/, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, {Kind::reduce_scatter, count_of_part, type, 0}, {from, to}, stream);
}
ncclResult_t ncclAllGather(const void* from, void* to, std::size_t count_of_part, ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return call(comm, {Kind::all_gather, count_of_part, type, 0}, {from, to}, stream);
}
ncclResult_t ncclSend(const void* from, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return mail(comm, comm->rank, peer, count * bytes_of(type), {from, nullptr}, stream);
}
ncclResult_t ncclRecv(void* to, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  return mail(comm, peer, comm->rank, count * bytes_of(type), {nullptr, to}, stream);
}
