// ZapHandler: answers ZeroMQ's question "may this peer in?" (RFC 27). Without one, CURVE admits whatever mechanism and
// key a peer brings. This one admits any CURVE key, since a client proves itself by its virtual key in its hello; every
// other mechanism is refused. Owned by the network thread.
#pragma once

#include <zmq.hpp>

#include <string>

namespace outlast::cluster {

inline constexpr const char* zap_endpoint = "inproc://zeromq.zap.01";
// ZMQ_ZAP_ENFORCE_DOMAIN: behind the draft guard of zmq.h, working in Debian's libzmq 4.3.4.
inline constexpr int zap_enforce_domain_option = 93;

class ZapHandler {
 public:
  // Binds; must happen before any socket of this context binds with `domain`. Throws zmq::error_t.
  ZapHandler(zmq::context_t& context, std::string domain);

  // Answers what has arrived. Call when socket() is readable.
  void answer();
  [[nodiscard]] zmq::socket_t& socket() { return socket_; }

 private:
  std::string domain_;
  zmq::socket_t socket_;
};

}  // namespace outlast::cluster
