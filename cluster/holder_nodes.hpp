// HolderNodes: which node a gateway process belongs to, as the control log and the links say it. For owners of shards: of a
// holder they hear its own node only.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "core/id.hpp"

namespace outlast::cluster {

// Any thread.
class HolderNodes {
 public:
  static constexpr std::size_t remembered_max = 65'536;

  // What is said first stays: a process has one node for ever. Beyond the limit the oldest processes are forgotten, which
  // their ids tell.
  void learn(const Incarnation& holder, const std::string& node);
  // Empty: nobody has said.
  [[nodiscard]] std::string node_of(const Incarnation& holder) const;
  // All of a node's that are known, oldest first.
  [[nodiscard]] std::vector<Incarnation> of(const std::string& node) const;

 private:
  mutable std::mutex mutex_;
  std::map<Incarnation, std::string> nodes_;
};

}  // namespace outlast::cluster
