// PeerPort: what the actors of a node need of its links to other nodes. Two implementations: cluster::PeerLinks behind a
// few lines of the daemon, and memory with faults in tests.
#pragma once

#include <string>

#include "cluster/peer_links.hpp"
#include "core/result.hpp"
#include "proto/frame.hpp"

namespace outlast::actors {

// Any thread. Must not call back into the actors from within send().
class PeerPort {
 public:
  virtual ~PeerPort() = default;
  // Queues a frame for a node that is up. Errors: cluster::LinkError (not_connected, overloaded).
  virtual Result<void> send(const std::string& node, cluster::Channel channel, FramePtr frame) = 0;
};

}  // namespace outlast::actors
