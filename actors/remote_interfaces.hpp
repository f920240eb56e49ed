// Which interfaces of interfaces.hpp other nodes may use, and how their messages cross a link.
#pragma once

#include "actors/interfaces.hpp"
#include "actors/remote_codec.hpp"

namespace outlast::actors {

template <>
struct Wire<NodeReport> {
  static Result<FramePtr> encode(const NodeReport& report);
  static Result<NodeReport> decode(const FramePtr& body);
};
template <>
struct Wire<WorkerDescription> {
  static Result<FramePtr> encode(const WorkerDescription& worker);
  static Result<WorkerDescription> decode(const FramePtr& body);
};
template <>
struct Wire<WorkerCall> {
  static Result<FramePtr> encode(const WorkerCall& call);
  static Result<WorkerCall> decode(const FramePtr& body);
};
template <>
struct Wire<WorkerResult> {
  static Result<FramePtr> encode(const WorkerResult& result);
  static Result<WorkerResult> decode(const FramePtr& body);
};

template <>
struct Remote<ClusterNode> {
  using Methods = MethodList<Method<1, status_atom, NodeReport>, Method<2, drain_atom, Done>>;
};
inline constexpr const char* cluster_node_name = "node";  // what each node serves its own as

template <>
struct Remote<GpuWorker> {
  using Methods = MethodList<Method<1, describe_atom, WorkerDescription>, Method<2, WorkerCall, WorkerReply>>;
};

}  // namespace outlast::actors
