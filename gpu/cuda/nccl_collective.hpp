// NcclCollective: the collective of GPUs. NCCL moves numbers on a stream of its own, after all that the device was asked for before, or
// before a mark; an operation has been done when its call returns, so what the device is asked for next sees it.
//
// What travels between machines is neither encrypted nor signed, and NCCL listens where the environment's NCCL_SOCKET_IFNAME says.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <utility>

#include "gpu/collective/collective.hpp"
#include "gpu/collective/rendezvous.hpp"
#include "gpu/cuda/cuda_device.hpp"

namespace outlast::gpu {

class NcclCollective final : public Collective {
 public:
  // As make_nccl_collective().
  static Result<std::unique_ptr<Collective>> make(CudaDevice& device, Rendezvous& rendezvous, const Generation& generation, std::chrono::milliseconds patience);
  ~NcclCollective() override;

  [[nodiscard]] std::uint64_t generation() const override { return generation_.number; }
  [[nodiscard]] std::size_t rank() const override { return generation_.rank; }
  [[nodiscard]] std::size_t ranks() const override { return generation_.ranks; }
  Mark mark() override;
  void begin_after(Mark mark) override { mark_ = std::move(mark); }
  Result<void> all_reduce_sum(const Array& numbers) override;
  Result<void> reduce_scatter_sum(const Array& numbers) override;
  Result<void> all_gather(const Array& numbers) override;
  Result<void> broadcast(const Array& numbers, std::size_t root) override;
  Result<void> pass_on(const Array& to_next, const Array& from_previous) override;
  Result<void> sum(std::span<double> numbers) override;

 private:
  NcclCollective(CudaDevice& device, Rendezvous& rendezvous, const Generation& generation, std::chrono::milliseconds patience);
  Result<void> start();
  Result<void> connect();
  // `work` calls NCCL and says what came of it. Where anything fails NCCL is given up, so that nothing on the device waits for ever.
  template <class Work>
  Result<void> run(const char* what, const Work& work);
  // Until NCCL has taken what it was given, and until the device has done it.
  Result<void> wait_until_taken(ncclResult_t status);
  Result<void> wait_until_done();
  // Waits a little, unless there is no more sense in it.
  Result<void> wait_on(std::chrono::steady_clock::time_point deadline) const;
  Result<void> give_room(std::size_t count);
  void give_up();

  CudaDevice& device_;
  Rendezvous& rendezvous_;
  const Generation generation_;
  const std::chrono::milliseconds patience_;
  std::atomic<bool> ended_{false};
  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t ready_ = nullptr;  // the device's own operations, when ours begins
  cudaEvent_t done_ = nullptr;
  Mark mark_;                    // an event of the device's own operations, for our next one
  double* few_ = nullptr;        // [room_] on the device
  double* few_here_ = nullptr;   // [room_] in locked memory of the host
  std::size_t room_ = 0;
};

}  // namespace outlast::gpu
