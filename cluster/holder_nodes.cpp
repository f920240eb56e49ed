#include "cluster/holder_nodes.hpp"

namespace outlast::cluster {

void HolderNodes::learn(const Incarnation& holder, const std::string& node) {
  if (holder.is_nil() || node.empty()) return;
  const std::lock_guard lock(mutex_);
  nodes_.try_emplace(holder, node);
  if (nodes_.size() > remembered_max) nodes_.erase(nodes_.begin());
}

std::string HolderNodes::node_of(const Incarnation& holder) const {
  const std::lock_guard lock(mutex_);
  const auto at = nodes_.find(holder);
  return at == nodes_.end() ? std::string() : at->second;
}

std::vector<Incarnation> HolderNodes::of(const std::string& node) const {
  std::vector<Incarnation> found;
  const std::lock_guard lock(mutex_);
  for (const auto& [holder, home] : nodes_) {
    if (home == node) found.push_back(holder);
  }
  return found;
}

}  // namespace outlast::cluster
