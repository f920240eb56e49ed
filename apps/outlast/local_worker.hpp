// LocalWorker: a GPU worker of this command's own, for as long as the command runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apps/outlast/child_process.hpp"
#include "apps/outlast/worker_calls.hpp"
#include "cluster/worker_host.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"

namespace outlast::apps {

struct LocalWorkerOptions {
  std::string device = "cpu";
  std::size_t threads = 0;     // 0: all processors
  std::string log_file;        // empty: in the worker's own folder, whose end an error shows
};

// One owner, on the main thread; the worker ends with it.
class LocalWorker final : public WorkerCalls {
 public:
  // Errors: failed, also when there is no such program.
  static Result<std::unique_ptr<LocalWorker>> start(const LocalWorkerOptions& options, Interrupts& interrupts);
  ~LocalWorker() override;

  // An interrupt does not end it: what the worker has to save comes first.
  Result<FramePtr> call(std::uint16_t method, FramePtr body) override;

 private:
  explicit LocalWorker(Interrupts& interrupts) : interrupts_(interrupts) {}
  Result<void> wait_until_up();
  [[nodiscard]] Failure gone() const;

  Interrupts& interrupts_;
  const SystemClock clock_;
  std::string folder_;
  std::unique_ptr<cluster::WorkerHost> host_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace outlast::apps
