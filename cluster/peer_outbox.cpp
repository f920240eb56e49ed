#include "cluster/peer_outbox.hpp"

#include <algorithm>
#include <utility>

namespace outlast::cluster {

Result<void> PeerOutbox::send(const std::string& node, Channel channel, FramePtr frame) {
  const std::lock_guard lock(mutex_);
  const Result<Entry*> entry = put(node, channel, std::move(frame));
  if (!entry) return fail(entry.error());
  if (!std::exchange((*entry)->dirty, true)) dirty_.push(node);
  return {};
}

Result<void> PeerOutbox::leave(const std::string& node, Channel channel, FramePtr frame) {
  const std::lock_guard lock(mutex_);
  const Result<Entry*> entry = put(node, channel, std::move(frame));
  return entry ? Result<void>() : fail(entry.error());
}

// Under the lock.
Result<PeerOutbox::Entry*> PeerOutbox::put(const std::string& node, Channel channel, FramePtr frame) {
  const auto c = static_cast<std::size_t>(channel);
  const auto found = entries_.find(node);
  if (found == entries_.end()) return fail(LinkError::not_connected, "there is no link to " + node);
  Entry& entry = found->second;
  if (frame->size() > entry.frame_bytes_max) {
    return fail(FrameError::too_large, "the frame has " + std::to_string(frame->size()) + " bytes; links take at most " +
                                           std::to_string(entry.frame_bytes_max));
  }
  if (entry.waiting[c].size() + entry.held[c].frames >= limits_.queue_frames_max ||
      entry.waiting_bytes[c] + entry.held[c].bytes + frame->size() > limits_.queue_bytes_max) {
    ++overloaded_;
    return fail(LinkError::overloaded, "the queue to " + node + " is full");
  }
  entry.waiting_bytes[c] += frame->size();
  entry.waiting[c].push_back(std::move(frame));
  return &entry;
}

void PeerOutbox::set_peers(std::vector<PeerAddress> peers) {
  {
    const std::lock_guard lock(mutex_);
    peers_ = std::move(peers);
  }
  dirty_.wake();
}

std::vector<Peer> PeerOutbox::up() const {
  const std::lock_guard lock(mutex_);
  std::vector<Peer> peers;
  peers.reserve(entries_.size());
  for (const auto& [node, entry] : entries_) peers.push_back(entry.peer);
  std::ranges::sort(peers, {}, &Peer::node);
  return peers;
}

PeerCounters PeerOutbox::counters() const {
  const std::lock_guard lock(mutex_);
  PeerCounters counters = counters_;
  counters.peers_up = entries_.size();
  counters.overloaded += overloaded_;
  return counters;
}

void PeerOutbox::open(const Peer& peer, std::size_t frame_bytes_max) {
  const std::lock_guard lock(mutex_);
  Entry entry;
  entry.peer = peer;
  entry.frame_bytes_max = frame_bytes_max;
  entries_.insert_or_assign(peer.node, std::move(entry));
}

void PeerOutbox::close(const std::string& node) {
  const std::lock_guard lock(mutex_);
  entries_.erase(node);
}

void PeerOutbox::take(const std::string& node, Frames& frames) {
  for (auto& channel : frames) channel.clear();
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(node);
  if (found == entries_.end()) return;
  Entry& entry = found->second;
  for (std::size_t c = 0; c < channel_count; ++c) {
    // Counted as held at once, so that there is no moment in which they count nowhere.
    entry.held[c].frames += entry.waiting[c].size();
    entry.held[c].bytes += std::exchange(entry.waiting_bytes[c], 0);
    frames[c].swap(entry.waiting[c]);
  }
  entry.dirty = false;
}

void PeerOutbox::hold(const std::string& node, const std::array<Held, channel_count>& held) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(node); found != entries_.end()) found->second.held = held;
}

std::optional<std::vector<PeerAddress>> PeerOutbox::take_peers() {
  const std::lock_guard lock(mutex_);
  return std::exchange(peers_, std::nullopt);
}

void PeerOutbox::publish(const PeerCounters& counters) {
  const std::lock_guard lock(mutex_);
  counters_ = counters;
}

}  // namespace outlast::cluster
