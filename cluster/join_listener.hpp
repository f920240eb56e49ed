// JoinListener: where machines that want to become nodes of the cluster ask. It speaks the join protocol only, to
// anybody: a ZeroMQ context and a thread of its own keep strangers away from everything else.
//
// CURVE is always on. Any client key is admitted, since it is what the joiner wants enrolled; that the joiner has the
// secret key to it, the link proves. Whoever floods, lies or guesses is bounded and counted; every refusal takes equally
// long, so that its time says nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "cluster/link_error.hpp"
#include "core/clock.hpp"
#include "core/result.hpp"
#include "proto/join_codec.hpp"

namespace outlast::cluster {

struct JoinLimits {
  std::uint32_t handshakes_per_s = 100;         // of all strangers together
  std::uint32_t requests_per_s = 50;            // of all
  std::uint32_t requests_per_s_of_address = 5;  // of each IP address
  std::size_t addresses_max = 1'024;            // remembered at once
  std::size_t in_progress_max = 16;             // asked of the callback and not answered
  std::size_t refusals_max = 256;               // waiting for their time
  std::size_t connections_max = 256;            // more, and all are dropped: who means it comes back
  std::uint32_t refusal_ms = 250;               // a refusal leaves so long after its request, or a multiple of that
  std::uint32_t answer_ms_max = 20'000;         // what the callback does not answer until then is forgotten
};

struct JoinListenerOptions {
  std::string listen;      // "tcp://HOST:PORT"; port 0 takes a free one
  std::string secret_key;  // the node's, CURVE, Z85
  JoinLimits limits;
};

struct JoinCounters {
  std::uint64_t requests = 0;            // well-formed
  std::uint64_t welcomed = 0;
  std::uint64_t refused = 0;
  std::uint64_t malformed = 0;           // frames that are no request
  std::uint64_t rate_limited = 0;        // requests that were not looked at: too many
  std::uint64_t handshakes_refused = 0;  // too many, or no CURVE
  std::uint64_t handshakes_failed = 0;   // broken off, another mechanism, or not by this node's key
  std::uint64_t connections = 0;         // now
  std::uint64_t disconnected = 0;        // ended: by the peer, or since its frame was too large
  std::uint64_t all_dropped = 0;         // times that there were too many connections
};

struct JoinRequest {
  join::Request message;
  std::string public_key;  // the joiner's, proved by the link; Z85
};

// Any thread.
class JoinListener {
 public:
  using Answer = std::function<void(join::Answer)>;  // any thread, also after the listener is gone; once
  // Called on the network thread: must not block.
  using OnJoin = std::function<void(JoinRequest request, Answer answer)>;

  // Binds and starts the thread. `clock` must outlive the listener. Errors: LinkError.
  [[nodiscard]] static Result<std::unique_ptr<JoinListener>> start(JoinListenerOptions options, const Clock& clock,
                                                                   OnJoin on_join);
  ~JoinListener();
  JoinListener(const JoinListener&) = delete;
  JoinListener& operator=(const JoinListener&) = delete;

  // With the port that was taken.
  [[nodiscard]] const std::string& endpoint() const;
  [[nodiscard]] const std::string& public_key() const;
  [[nodiscard]] JoinCounters counters() const;

 private:
  class Network;
  explicit JoinListener(std::unique_ptr<Network> network);
  std::unique_ptr<Network> network_;
};

}  // namespace outlast::cluster
