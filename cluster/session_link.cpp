#include "cluster/session_link.hpp"

#include <algorithm>
#include <utility>

#include "cluster/durations.hpp"

namespace outlast::cluster {
SessionLink::Due SessionLink::due(std::int64_t now_ns) {
  if (now_ns < next_wake_ns()) return Due::nothing;
  if (state_ == State::waiting) return Due::connect;
  if (state_ != State::ready || now_ns >= last_heard_ns_ + ns_of(times_.silence_ms_max)) return Due::give_up;
  next_ping_ns_ = now_ns + ns_of(times_.ping_ms);
  return Due::ping;
}

std::int64_t SessionLink::next_wake_ns() const {
  if (state_ == State::waiting) return since_ns_;
  if (state_ != State::ready) return since_ns_ + ns_of(times_.connect_ms_max);
  return std::min(next_ping_ns_, last_heard_ns_ + ns_of(times_.silence_ms_max));
}

void SessionLink::connecting(std::uint64_t connection, std::int64_t now_ns) {
  state_ = State::connecting;
  connection_ = connection;
  since_ns_ = now_ns;
}

void SessionLink::welcomed(std::string node, std::int64_t now_ns) {
  state_ = State::ready;
  node_ = std::move(node);
  failures_ = 0;
  draining_ = false;
  rejection_.reset();
  last_error_.clear();
  last_heard_ns_ = now_ns;
  next_ping_ns_ = now_ns + ns_of(times_.ping_ms);
}

void SessionLink::lost(std::string reason, std::optional<ChatFailure> rejection, std::uint32_t wait_ms,
                       std::int64_t now_ns, Random& random) {
  const std::uint32_t doublings = std::min(failures_++, 16u);
  const std::uint64_t ceiling =
      std::min<std::uint64_t>(std::uint64_t{times_.backoff_ms_min} << doublings, times_.backoff_ms_max);
  // "Equal jitter": half of it fixed, so that a dead node is not hammered, half random, so that clients spread.
  const std::uint64_t backoff_ms = ceiling / 2 + random.below(ceiling / 2 + 1);
  state_ = State::waiting;
  connection_ = 0;
  draining_ = false;
  since_ns_ = now_ns + static_cast<std::int64_t>(std::max<std::uint64_t>(backoff_ms, wait_ms)) * 1'000'000;
  last_error_ = std::move(reason);
  rejection_ = std::move(rejection);
}

}  // namespace outlast::cluster
