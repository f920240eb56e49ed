// A GPU worker as commands use it: one of their own, or one of the cluster's.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>

#include "apps/outlast/child_process.hpp"
#include "apps/outlast/node_access.hpp"
#include "core/result.hpp"
#include "proto/work_codec.hpp"

namespace outlast::apps {

// Two implementations: a worker of this command's own (local_worker.hpp), and one that is reached through a node.
class WorkerCalls {
 public:
  virtual ~WorkerCalls() = default;
  WorkerCalls() = default;
  WorkerCalls(const WorkerCalls&) = delete;
  WorkerCalls& operator=(const WorkerCalls&) = delete;
  // By the methods of proto/work_codec.hpp.
  virtual Result<FramePtr> call(std::uint16_t method, FramePtr body) = 0;
};

struct WorkerChoice {
  std::string name;         // NODE/NAME; empty: one of the command's own
  std::string device = "cpu";  // of its own
  std::size_t threads = 0;     // 0: all processors
  std::string log_file;
};
void add_worker_options(CLI::App& command, WorkerChoice& choice);

// Errors: failed, unreachable.
Result<std::unique_ptr<WorkerCalls>> find_worker(const GlobalOptions& global, const WorkerChoice& choice, Interrupts& interrupts);

// Has the work done and hands out its events, of which `done` and `failed` are the last. After an interrupt the work is asked to
// stop, and ends with what it has saved. Errors: failed, with what the worker said.
Result<void> run_work(WorkerCalls& worker, const work::Start& work, Interrupts& interrupts,
                      const std::function<void(const work::Event&)>& on_event);

}  // namespace outlast::apps
