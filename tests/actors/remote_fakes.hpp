// A GPU worker for tests of remote actors.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <caf/typed_response_promise.hpp>

#include "actors/interfaces.hpp"
#include "tests/actors/memory_net.hpp"

namespace outlast::actors::testing {

// Answers a call with its method and body; method 0 is answered when the test releases it, 1 is an error of its own.
struct Held {
  std::vector<caf::typed_response_promise<WorkerReply>> promises;
  void release() {
    for (auto& promise : std::exchange(promises, {})) promise.deliver(WorkerReply(WorkerResult{frame_of("released")}));
  }
};
inline GpuWorker::behavior_type fake_worker(GpuWorker::pointer self, std::shared_ptr<Held> held) {
  return {
      [](describe_atom) -> WorkerDescription { return {"gpu0", "a device", 1 << 20, {"echo"}}; },
      [self, held](const WorkerCall& call) -> caf::result<WorkerReply> {
        if (call.method == 0) {
          auto promise = self->make_response_promise<WorkerReply>();
          held->promises.push_back(promise);
          return promise;
        }
        if (call.method == 1) return WorkerReply(fail(ActorError::refused, "not this one"));
        return WorkerReply(WorkerResult{frame_of(std::to_string(call.method) + ":" + text_of(call.body))});
      },
  };
}

}  // namespace outlast::actors::testing
