#include "actors/remote_interfaces.hpp"

#include "proto/ask_codec.hpp"

namespace outlast::actors {
namespace {

std::span<const std::byte> bytes_of(const FramePtr& body) {
  return body ? body->bytes() : std::span<const std::byte>();
}

}  // namespace

Result<FramePtr> Wire<NodeReport>::encode(const NodeReport& report) { return ask::encode_body(report); }
Result<NodeReport> Wire<NodeReport>::decode(const FramePtr& body) { return ask::decode_node_report(bytes_of(body)); }

Result<FramePtr> Wire<WorkerDescription>::encode(const WorkerDescription& worker) { return ask::encode_body(worker); }
Result<WorkerDescription> Wire<WorkerDescription>::decode(const FramePtr& body) {
  return ask::decode_worker(bytes_of(body));
}

Result<FramePtr> Wire<WorkerCall>::encode(const WorkerCall& call) {
  return ask::encode_body(ask::WorkerBody{call.method, call.body});
}
Result<WorkerCall> Wire<WorkerCall>::decode(const FramePtr& body) {
  auto call = ask::decode_worker_body(bytes_of(body));
  if (!call) return fail(std::move(call.error()));
  return WorkerCall{call->method, std::move(call->body)};
}

// The bare bytes: an answer has nothing else to say.
Result<FramePtr> Wire<WorkerResult>::encode(const WorkerResult& result) { return result.body; }
Result<WorkerResult> Wire<WorkerResult>::decode(const FramePtr& body) { return WorkerResult{body}; }

}  // namespace outlast::actors
