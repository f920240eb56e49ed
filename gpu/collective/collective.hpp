// Collective: what the ranks of one run do together with their numbers. The seam behind which TCP moves them between CPUs, and
// NCCL between GPUs.
//
// Every rank calls the same operations in the same order with arrays of the same sizes, and gets the same answer. Errors of all
// operations: peer_lost, where a rank died, stalled, or gave up: then the collective is of no more use to anyone, every later call
// fails too, and the survivors make a new one; device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/result.hpp"
#include "gpu/array.hpp"

namespace outlast::gpu {

struct Part {
  std::size_t begin = 0;
  std::size_t count = 0;
};
// A rank's part of `count` numbers: contiguous, in the order of ranks, all but the last as long as the first and aligned for the
// device; the last ones may be empty.
Part part_of(std::size_t count, std::size_t rank, std::size_t ranks);

// One thread at a time, not always the same.
class Collective {
 public:
  virtual ~Collective() = default;
  Collective() = default;
  Collective(const Collective&) = delete;
  Collective& operator=(const Collective&) = delete;

  [[nodiscard]] virtual std::uint64_t generation() const = 0;  // of these ranks; a later one's is higher
  [[nodiscard]] virtual std::size_t rank() const = 0;
  [[nodiscard]] virtual std::size_t ranks() const = 0;

  // What the device has been asked for by now; of the thread that asks it, also while another one is in an operation. None where a
  // device has always done what it was asked for.
  using Mark = std::shared_ptr<const void>;
  virtual Mark mark() { return nullptr; }
  // The next operation comes after this mark, and not after all that the device has been asked for when it begins.
  virtual void begin_after(Mark) {}

  // f32: every rank has the sum of all.
  virtual Result<void> all_reduce_sum(const Array& numbers) = 0;
  // f32: the rank's own part (part_of) has the sum; the rest is used up.
  virtual Result<void> reduce_scatter_sum(const Array& numbers) = 0;
  // Every rank gives its own part, and has all.
  virtual Result<void> all_gather(const Array& numbers) = 0;
  virtual Result<void> broadcast(const Array& numbers, std::size_t root) = 0;
  // To the next rank, the last one's to the first; and from the one before. Only here sizes may differ from rank to rank.
  virtual Result<void> pass_on(const Array& to_next, const Array& from_previous) = 0;
  // Of a few numbers of the host: every rank has the sum of all. Returns on no rank before all have called it.
  virtual Result<void> sum(std::span<double> numbers) = 0;
};

}  // namespace outlast::gpu
