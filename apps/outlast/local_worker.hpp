// LocalWorker: a GPU worker of this command's own, for as long as the command runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "apps/outlast/child_process.hpp"
#include "cluster/worker_host.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/work_codec.hpp"

namespace outlast::apps {

struct LocalWorkerOptions {
  std::size_t threads = 0;  // 0: all processors
  std::string log_file;     // empty: in the worker's own folder, whose end an error shows
};

// One owner, on the main thread; the worker ends with it.
class LocalWorker {
 public:
  // Errors: failed, also when there is no such program.
  static Result<std::unique_ptr<LocalWorker>> start(const LocalWorkerOptions& options, Interrupts& interrupts);
  ~LocalWorker();
  LocalWorker(const LocalWorker&) = delete;
  LocalWorker& operator=(const LocalWorker&) = delete;

  // Has the work done and hands out its events, of which `done` and `failed` are the last. After an interrupt the work is asked to
  // stop, and ends with what it has saved. Errors: failed, with what the worker said.
  Result<void> run(const work::Start& work, const std::function<void(const work::Event&)>& on_event);

 private:
  explicit LocalWorker(Interrupts& interrupts) : interrupts_(interrupts) {}
  Result<void> wait_until_up();
  // An interrupt does not end it: what the worker has to save comes first.
  Result<FramePtr> call(std::uint16_t method, FramePtr body);
  [[nodiscard]] Failure gone() const;

  Interrupts& interrupts_;
  const SystemClock clock_;
  std::string folder_;
  std::unique_ptr<cluster::WorkerHost> host_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace outlast::apps
