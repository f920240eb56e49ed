// WorkerLink: the worker's end of the link to its host (worker_host.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cluster/link_error.hpp"
#include "core/clock.hpp"
#include "core/node_report.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::cluster {

inline constexpr std::size_t socket_path_bytes_max = 107;  // of a Unix socket
inline constexpr std::int64_t worker_beat_ns = 500'000'000;

struct WorkerLinkOptions {
  std::string socket;  // the host's
  WorkerDescription worker;
  std::uint32_t silence_ms_max = 10'000;  // a host that says nothing for so long is gone; it may be started again within
};

// Any thread.
class WorkerLink {
 public:
  using Answer = std::function<void(Result<FramePtr>)>;  // any thread, also after the link is gone; once
  struct Callbacks {                                     // on the network thread: must not block
    std::function<void(std::uint16_t method, FramePtr body, Answer answer)> on_ask;  // body: null or empty where there is none
    std::function<void(const std::string& why)> on_gone;                             // once; nothing follows
  };

  // Errors: LinkError.
  [[nodiscard]] static Result<std::unique_ptr<WorkerLink>> start(WorkerLinkOptions options, const Clock& clock, Callbacks callbacks);
  ~WorkerLink();
  WorkerLink(const WorkerLink&) = delete;
  WorkerLink& operator=(const WorkerLink&) = delete;

 private:
  class Network;
  explicit WorkerLink(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace outlast::cluster
