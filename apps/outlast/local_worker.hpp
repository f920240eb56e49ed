// LocalWorker: a GPU worker of this command's own, for as long as the command runs.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <string>

#include "apps/outlast/child_process.hpp"
#include "apps/outlast/worker_calls.hpp"
#include "cluster/worker_host.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"

namespace outlast::apps {

struct LocalWorkerOptions {
  std::string name = "local";  // in its log
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
  // The same without waiting for the answer.
  std::future<Result<FramePtr>> ask(std::uint16_t method, FramePtr body);
  bool running() { return process_->running(); }
  // Whether it ends by then. A process that dies is cut off first, and has ended a moment later.
  bool ends_within(int ms);
  // How it ended: "signal 9"; empty while it runs.
  [[nodiscard]] std::string ending() const { return process_->ending(); }
  // The same as an error, with the end of its log.
  [[nodiscard]] Failure gone() const;
  void kill() { process_->kill(); }
  void ask_to_stop() { process_->ask_to_stop(); }

 private:
  LocalWorker(std::string name, Interrupts& interrupts) : name_(std::move(name)), interrupts_(interrupts) {}
  Result<void> wait_until_up();

  const std::string name_;
  Interrupts& interrupts_;
  const SystemClock clock_;
  std::string folder_;
  std::unique_ptr<cluster::WorkerHost> host_;
  std::unique_ptr<ChildProcess> process_;
};

}  // namespace outlast::apps
