// WorkerHost: the end of the links to GPU workers, processes on the same machine, that asks. A node has one, and a command
// that runs a worker of its own.
//
// The link is a Unix socket in a folder that only this user may enter: that is what keeps others out. Both ends say every half
// second that they are there; frames are those of the control channel (proto/ask.capnp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cluster/link_error.hpp"
#include "core/clock.hpp"
#include "core/node_report.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

struct WorkerHostOptions {
  std::string socket;                   // its path; the folder must be this user's alone
  std::uint32_t silence_ms_max = 3'000; // a worker that says nothing for so long is gone
  std::size_t asks_max = 1'024;         // not answered yet, of all workers
};

// Any thread.
class WorkerHost {
 public:
  using Answer = std::function<void(Result<FramePtr>)>;  // on the network thread: must not block; once
  struct Callbacks {                                     // likewise
    std::function<void(const WorkerDescription&)> on_up;
    std::function<void(const std::string& name, const std::string& why)> on_down;
  };

  // Errors: LinkError (bad_address: too long a path, or a folder that others may enter).
  [[nodiscard]] static Result<std::unique_ptr<WorkerHost>> start(WorkerHostOptions options, const Clock& clock, Callbacks callbacks);
  // What is not answered fails with not_connected.
  ~WorkerHost();
  WorkerHost(const WorkerHost&) = delete;
  WorkerHost& operator=(const WorkerHost&) = delete;

  // Errors of the answer: what the worker says; LinkError (not_connected: there is no such worker or it went; overloaded; timed_out).
  void ask(const std::string& worker, std::uint16_t method, FramePtr body, std::uint32_t deadline_ms, Answer answer);
  [[nodiscard]] std::vector<WorkerDescription> workers() const;

 private:
  class Network;
  explicit WorkerHost(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace outlast::cluster
