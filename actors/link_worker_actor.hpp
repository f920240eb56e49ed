// The actor of a GPU worker that is linked to this node (cluster/worker_host.hpp): what it is asked, the worker's process answers.
#pragma once

#include <cstdint>
#include <map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "actors/interfaces.hpp"
#include "cluster/worker_host.hpp"
#include "core/node_report.hpp"

namespace outlast::actors {

// From itself, when the process has answered.
struct LinkWorkerAnswer {
  std::uint64_t call = 0;
  WorkerReply reply;
};

using LinkWorker = GpuWorker::extend<caf::reacts_to<LinkWorkerAnswer>>;

struct LinkWorkerState {
  std::uint64_t last_call = 0;
  std::map<std::uint64_t, caf::typed_response_promise<WorkerReply>> calls;  // not answered yet; the host bounds them
};

// `host` outlives the actor.
LinkWorker::behavior_type link_worker_actor(LinkWorker::stateful_pointer<LinkWorkerState> self, cluster::WorkerHost* host,
                                            const WorkerDescription& worker);

}  // namespace outlast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::LinkWorkerAnswer)
