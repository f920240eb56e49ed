// SessionLink: one client's link to one endpoint as a state machine over time: connect, greet, ready, lost, back off.
// Pure: its owner does what it says.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "cluster/chat_outcome.hpp"
#include "core/random.hpp"

namespace outlast::cluster {

struct LinkTimes {
  std::uint32_t connect_ms_max = 5'000;  // to a welcome
  std::uint32_t ping_ms = 1'000;
  std::uint32_t silence_ms_max = 4'000;  // a ready link that says nothing for so long is lost
  std::uint32_t backoff_ms_min = 50;
  std::uint32_t backoff_ms_max = 5'000;
};

// Owned by its session.
class SessionLink {
 public:
  enum class Due : std::uint8_t { nothing, connect, ping, give_up };
  enum class State : std::uint8_t { waiting, connecting, greeting, ready };

  explicit SessionLink(const LinkTimes& times) : times_(times) {}

  // What time asks for. `connect` and `ping` count as done; after `give_up` the owner calls lost().
  [[nodiscard]] Due due(std::int64_t now_ns);
  [[nodiscard]] std::int64_t next_wake_ns() const;

  void connecting(std::uint64_t connection, std::int64_t now_ns);
  void greeting() { state_ = State::greeting; }
  void welcomed(std::string node, std::int64_t now_ns);
  void heard(std::int64_t now_ns) { last_heard_ns_ = now_ns; }
  // The node drains: what runs goes on, nothing new is sent.
  void draining() { draining_ = true; }
  // Waits with exponential backoff and jitter, at least `wait_ms`, before it connects again. `rejection`: the node
  // itself refuses this client, so trying elsewhere is all that helps.
  void lost(std::string reason, std::optional<ChatFailure> rejection, std::uint32_t wait_ms, std::int64_t now_ns,
            Random& random);

  [[nodiscard]] bool takes_requests() const { return state_ == State::ready && !draining_; }
  [[nodiscard]] bool is_draining() const { return draining_; }
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint64_t connection() const { return connection_; }
  [[nodiscard]] const std::string& node() const { return node_; }
  [[nodiscard]] const std::string& last_error() const { return last_error_; }
  [[nodiscard]] const std::optional<ChatFailure>& rejection() const { return rejection_; }

  std::set<std::uint64_t> requests;  // in flight on this link

 private:
  const LinkTimes times_;
  State state_ = State::waiting;
  std::uint64_t connection_ = 0;
  std::int64_t since_ns_ = 0;  // waiting: until when; connecting and greeting: from when
  std::int64_t last_heard_ns_ = 0;
  std::int64_t next_ping_ns_ = 0;
  std::uint32_t failures_ = 0;
  bool draining_ = false;
  std::string node_;
  std::string last_error_;
  std::optional<ChatFailure> rejection_;
};

}  // namespace outlast::cluster
