// PeerOutbox: where other threads leave frames for peers, and what they may ask without the network thread: who is up,
// how full a queue is, the counters.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cluster/peer_links.hpp"
#include "cluster/wake_queue.hpp"

namespace outlast::cluster {

class PeerOutbox {
 public:
  using Frames = std::array<std::vector<FramePtr>, channel_count>;
  struct Held {  // by a session: waiting there or not acknowledged
    std::size_t frames = 0;
    std::size_t bytes = 0;
    bool operator==(const Held&) const = default;
  };

  explicit PeerOutbox(const PeerLimits& limits) : limits_(limits) {}

  // ---- any thread

  // Wakes the network thread.
  Result<void> send(const std::string& node, Channel channel, FramePtr frame);
  void set_peers(std::vector<PeerAddress> peers);
  [[nodiscard]] std::vector<Peer> up() const;
  [[nodiscard]] PeerCounters counters() const;
  void wake() { dirty_.wake(); }

  // ---- the network thread, or whoever has its turn

  // As send(), for what is taken at once.
  Result<void> leave(const std::string& node, Channel channel, FramePtr frame);
  // Frames that were left before belong to no session and are dropped.
  void open(const Peer& peer, std::size_t frame_bytes_max);
  void close(const std::string& node);
  // Moves the names of nodes for which something was left; take() then gives it.
  void take_dirty(std::vector<std::string>& nodes) { dirty_.take(nodes); }
  void take(const std::string& node, Frames& frames);
  void hold(const std::string& node, const std::array<Held, channel_count>& held);
  [[nodiscard]] std::optional<std::vector<PeerAddress>> take_peers();
  void publish(const PeerCounters& counters);
  [[nodiscard]] int descriptor() const { return dirty_.descriptor(); }
  [[nodiscard]] bool may_sleep() { return dirty_.may_sleep(); }
  void clear_wake_up() { dirty_.clear_wake_up(); }

 private:
  struct Entry;
  Result<Entry*> put(const std::string& node, Channel channel, FramePtr frame);
  struct Entry {
    Peer peer;
    std::size_t frame_bytes_max = 0;
    Frames waiting;
    std::array<std::size_t, channel_count> waiting_bytes{};
    std::array<Held, channel_count> held;
    bool dirty = false;
  };

  const PeerLimits limits_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, Entry> entries_;  // of peers that are up
  std::optional<std::vector<PeerAddress>> peers_;
  PeerCounters counters_;
  std::uint64_t overloaded_ = 0;
  WakeQueue<std::string> dirty_;  // one name per peer and turn
};

}  // namespace outlast::cluster
