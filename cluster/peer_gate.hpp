// PeerGate: answers ZeroMQ's question "may this key in?" (RFC 27) from the allow-list of a cluster. CURVE alone admits
// any key. The key becomes the connection's User-Id, which ZeroMQ attaches to every message that comes over it: so a
// message is worth what its key is worth at the moment when it is read. Owned by the network thread.
#pragma once

#include <zmq.hpp>

#include <cstdint>
#include <functional>
#include <string>

namespace outlast::cluster {

class PeerGate {
 public:
  // Is this public key (Z85) of a node of the cluster?
  using Admits = std::function<bool(const std::string& public_key)>;

  // Binds; must happen before any socket of this context binds with `domain`. Throws zmq::error_t.
  PeerGate(zmq::context_t& context, std::string domain, Admits admits);

  // Answers what has arrived, up to a bound. False when there may be more.
  bool answer();
  [[nodiscard]] zmq::socket_t& socket() { return socket_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  bool answer_one();

  const std::string domain_;
  const Admits admits_;
  zmq::socket_t socket_;
  std::uint64_t refused_ = 0;
};

}  // namespace outlast::cluster
