#include "actors/link_worker_actor.hpp"

#include <utility>

#include <caf/send.hpp>

namespace outlast::actors {
namespace {

constexpr std::uint32_t call_ms_max = 300'000;

}  // namespace

LinkWorker::behavior_type link_worker_actor(LinkWorker::stateful_pointer<LinkWorkerState> self, cluster::WorkerHost* host,
                                            const WorkerDescription& worker) {
  return {[worker](describe_atom) { return worker; },
          [self, host, name = worker.name](const WorkerCall& call) {
            auto promise = self->make_response_promise<WorkerReply>();
            const std::uint64_t number = ++self->state.last_call;
            self->state.calls.emplace(number, promise);
            host->ask(name, call.method, call.body, call_ms_max, [answered = caf::actor_cast<LinkWorker>(self), number](Result<FramePtr> result) {
              WorkerReply reply = result ? WorkerReply(WorkerResult{std::move(*result)}) : WorkerReply(fail(std::move(result.error())));
              caf::anon_send(answered, LinkWorkerAnswer{number, std::move(reply)});
            });
            return promise;
          },
          [self](const LinkWorkerAnswer& answer) {
            const auto at = self->state.calls.find(answer.call);
            if (at == self->state.calls.end()) return;
            at->second.deliver(answer.reply);
            self->state.calls.erase(at);
          }};
}

}  // namespace outlast::actors
