// RunLock: the ranks of one run have its folder to themselves, for as long as one of them lives.
#pragma once

#include <memory>
#include <string>

#include "core/result.hpp"

namespace outlast::worker {

// One owner. The kernel drops it with the process; its file goes with the last rank that ends in order.
class RunLock {
 public:
  // Makes the folder where it is not there. `run`: the same of all ranks of a run; empty: this one is alone. Errors: GpuError (invalid:
  // another run has it; io).
  static Result<std::unique_ptr<RunLock>> take(const std::string& folder, const std::string& run);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  RunLock(std::string folder, bool made_folder, int descriptor) : folder_(std::move(folder)), made_folder_(made_folder), descriptor_(descriptor) {}

  const std::string folder_;
  const bool made_folder_;
  const int descriptor_;
};

}  // namespace outlast::worker
