// JoinGate: the ZAP handler of the join listener. It admits any CURVE key, at a bounded rate, and has every message of
// the peer say whose key it is, so that a joiner proves its key by the link itself. Owned by the network thread.
#pragma once

#include <cstdint>
#include <string>

#include <zmq.hpp>

namespace outlast::cluster {

// So many a second, and as many at once after a pause. One owner.
class RateBucket {
 public:
  explicit RateBucket(std::uint32_t per_s) : per_s_(per_s), left_(per_s) {}
  // False when it is empty.
  bool take(std::int64_t now_ns);
  // Whether it is as good as new.
  [[nodiscard]] bool full(std::int64_t now_ns) const;

 private:
  [[nodiscard]] double left_at(std::int64_t now_ns) const;

  double per_s_;
  double left_;
  std::int64_t last_ns_ = 0;
};

class JoinGate {
 public:
  // Binds; must happen before any socket of this context binds with `domain`. Throws zmq::error_t.
  JoinGate(zmq::context_t& context, std::string domain, std::uint32_t handshakes_per_s);

  // Answers what has arrived. Call when socket() is readable.
  void answer(std::int64_t now_ns);
  [[nodiscard]] zmq::socket_t& socket() { return socket_; }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  std::string domain_;
  zmq::socket_t socket_;
  RateBucket handshakes_;
  std::uint64_t refused_ = 0;
};

}  // namespace outlast::cluster
