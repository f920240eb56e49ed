// TestPeer: a node's PeerLinks that remembers what its handlers were told.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cluster/curve.hpp"
#include "cluster/peer_links.hpp"
#include "core/check.hpp"
#include "core/clock.hpp"
#include "core/random.hpp"

namespace outlast::test {

inline constexpr std::chrono::seconds peer_patience{30};

inline FramePtr frame_of_text(std::string_view text) { return Frame::copy_of(std::as_bytes(std::span(text))); }
inline std::string text_of_frame(const Frame& frame) {
  return {reinterpret_cast<const char*>(frame.bytes().data()), frame.size()};
}

class TestPeer {
 public:
  explicit TestPeer(std::string name, cluster::PeerLimits limits = quick_limits(),
                    cluster::CurveKeys keys = cluster::make_curve_keys())
      : keys_(std::move(keys)) {
    options.listen = "tcp://127.0.0.1:0";
    options.secret_key = keys_.secret_key;
    options.cluster = "test";
    options.node = std::move(name);
    options.limits = limits;
  }
  // Quick enough that a test of a broken connection takes no seconds, slow enough for a busy machine.
  static cluster::PeerLimits quick_limits() {
    cluster::PeerLimits limits;
    limits.heartbeat_ms = 50;
    limits.silence_ms_max = 10'000;
    return limits;
  }

  void start() {
    options.incarnation = UuidGenerator(clock_, secure_seed()).next();
    cluster::PeerHandlers handlers;
    handlers.on_up = [this](const cluster::Peer& peer) { note([&] { ups_.push_back(peer); }); };
    handlers.on_down = [this](const cluster::Peer& peer, const std::string& why) {
      note([&] { downs_.emplace_back(peer, why); });
    };
    handlers.on_frame = [this](const cluster::Peer& peer, cluster::Channel channel, const FramePtr& frame) {
      on_frame(peer, channel, frame);
    };
    // The port of a process that was just stopped can stay taken for a moment.
    const auto give_up = std::chrono::steady_clock::now() + peer_patience;
    while (true) {
      auto started = cluster::PeerLinks::start(options, clock_, handlers);
      if (started) {
        links_ = std::move(*started);
        break;
      }
      check(std::chrono::steady_clock::now() < give_up, "the node can listen", started.error().message);
    }
    options.listen = links_->endpoint();
  }
  void stop() { links_.reset(); }
  // What comes on this channel goes back at once.
  void echo(cluster::Channel channel) {
    const std::lock_guard lock(mutex_);
    echoed_ = channel;
  }
  // The next frame keeps the network thread in its handler until go_on().
  void hold() {
    const std::lock_guard lock(mutex_);
    hold_ = true;
  }
  bool wait_held() {
    return wait([this] { return held_; });
  }
  void go_on() {
    note([this] { hold_ = false; });
  }

  [[nodiscard]] cluster::PeerAddress address() const {
    return {options.node, keys_.public_key, links_ ? links_->endpoint() : options.listen};
  }
  [[nodiscard]] const cluster::CurveKeys& keys() const { return keys_; }
  cluster::PeerLinks& links() { return *links_; }

  Result<void> send(const std::string& node, cluster::Channel channel, std::string_view text) {
    return links_->send(node, channel, frame_of_text(text));
  }
  template <class Condition>
  bool wait(Condition condition, std::chrono::milliseconds patience = peer_patience) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, condition);
  }
  // Sends as soon as the queue has room.
  bool wait_sent(const std::string& node, cluster::Channel channel, std::string_view text) {
    const auto give_up = std::chrono::steady_clock::now() + peer_patience;
    while (true) {
      const auto sent = send(node, channel, text);
      if (sent) return true;
      if (!is(sent.error(), cluster::LinkError::overloaded) || std::chrono::steady_clock::now() >= give_up) return false;
      std::this_thread::yield();
    }
  }
  // For conditions of wait().
  [[nodiscard]] std::size_t downs_now() const { return downs_.size(); }
  bool wait_ups(std::size_t count) {
    return wait([this, count] { return ups_.size() >= count; });
  }
  bool wait_downs(std::size_t count) {
    return wait([this, count] { return downs_.size() >= count; });
  }
  bool wait_frames(const std::string& node, cluster::Channel channel, std::size_t count) {
    return wait([&] { return frames_[{node, channel}].size() >= count; });
  }
  // Counters change without an event: looked at again and again, without a sleep, until the deadline.
  template <class Condition>
  bool wait_counters(Condition condition, std::chrono::milliseconds patience = peer_patience) {
    const auto give_up = std::chrono::steady_clock::now() + patience;
    while (!condition(links_->counters())) {
      if (std::chrono::steady_clock::now() >= give_up) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::vector<cluster::Peer> ups() {
    const std::lock_guard lock(mutex_);
    return ups_;
  }
  std::vector<std::pair<cluster::Peer, std::string>> downs() {
    const std::lock_guard lock(mutex_);
    return downs_;
  }
  std::size_t downs_of(const std::string& node) {
    std::size_t count = 0;
    for (const auto& [peer, why] : downs()) count += peer.node == node ? 1 : 0;
    return count;
  }
  std::vector<std::string> texts(const std::string& node, cluster::Channel channel) {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> texts;
    for (const FramePtr& frame : frames_[{node, channel}]) texts.push_back(text_of_frame(*frame));
    return texts;
  }

  cluster::PeerLinkOptions options;

 private:
  void on_frame(const cluster::Peer& peer, cluster::Channel channel, const FramePtr& frame) {
    std::unique_lock lock(mutex_);
    if (hold_) {
      held_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !hold_; });
      held_ = false;
    }
    frames_[{peer.node, channel}].push_back(frame);
    const bool echoed = echoed_ == channel;
    changed_.notify_all();
    lock.unlock();
    if (echoed) check(links_->send(peer.node, channel, frame).has_value(), "an echo fits the queue");
  }
  template <class Change>
  void note(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }

  const cluster::CurveKeys keys_;
  SystemClock clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<cluster::Peer> ups_;
  std::vector<std::pair<cluster::Peer, std::string>> downs_;
  std::map<std::pair<std::string, cluster::Channel>, std::vector<FramePtr>> frames_;
  std::optional<cluster::Channel> echoed_;
  bool hold_ = false;
  bool held_ = false;
  std::unique_ptr<cluster::PeerLinks> links_;
};

// Every node knows every other.
inline void introduce(const std::vector<TestPeer*>& nodes) {
  for (TestPeer* node : nodes) {
    std::vector<cluster::PeerAddress> others;
    for (TestPeer* other : nodes) {
      if (other != node) others.push_back(other->address());
    }
    node->links().set_peers(std::move(others));
  }
}

}  // namespace outlast::test
