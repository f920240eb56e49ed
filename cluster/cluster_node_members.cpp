// Who takes part, as the control log and etcd say it: whom a node links to, and when it is no part of the cluster itself any more.
#include <csignal>
#include <map>
#include <utility>

#include "cluster/cluster_node.hpp"
#include "core/log.hpp"

namespace outlast::cluster {

// A node that has moved is found by what it says in etcd: it is linked to before it can have its new address written down.
void ClusterNode::set_peers() {
  const std::lock_guard setting(peers_mutex_);
  const auto control = control_.get();
  std::map<std::string, std::string> endpoints;
  {
    const std::lock_guard lock(mutex_);
    for (const Presence& presence : view_.nodes) endpoints[presence.node] = presence.endpoint;
  }
  std::vector<PeerAddress> peers;
  for (const MemberRecord& node : control->members.nodes) {
    if (!node.takes_part() || node.enrolled.name == options_.node) continue;
    const auto present = endpoints.find(node.enrolled.name);
    peers.push_back({node.enrolled.name, node.enrolled.public_key, present == endpoints.end() ? node.enrolled.endpoint : present->second});
  }
  links_->set_peers(std::move(peers));
}

void ClusterNode::end_removed(const ControlView& view) {
  std::vector<Incarnation> gone;
  for (const MemberRecord& node : view.members.nodes) {
    if (node.takes_part()) continue;
    for (const Incarnation& process : holder_nodes_.of(node.enrolled.name)) gone.push_back(process);
  }
  {
    const std::lock_guard lock(mutex_);
    gone_ = std::make_shared<const std::vector<Incarnation>>(std::move(gone));
  }
  for (const auto& host : hosts()) prepare(*host);
  const MemberRecord* self = view.members.find(options_.node);
  if (self == nullptr || self->takes_part() || removed_.exchange(true)) return;
  log::error("removed_from_cluster", {{"state", name_of(self->state)}, {"by", self->changed_by}, {"reason", self->reason},
                                      {"effect", "the node stops"}});
  std::raise(SIGTERM);
}

// A later process with this node's identity is its process now, to the ledger too: what this one holds is taken for that of the
// dead. Started again, it is the later one.
void ClusterNode::end_replaced(const ControlView& view) {
  const MemberRecord* self = view.members.find(options_.node);
  if (self == nullptr || !self->takes_part()) return;
  if (self->enrolled.incarnation == incarnation_) {
    on_record_ = true;
    return;
  }
  if (!on_record_ || removed_.exchange(true)) return;
  log::error("identity_in_use", {{"endpoint", self->enrolled.endpoint}, {"reason", "another process began with this node's identity: is a copy of its data in use?"},
                                 {"effect", "the node stops"}});
  std::raise(SIGTERM);
}

}  // namespace outlast::cluster
