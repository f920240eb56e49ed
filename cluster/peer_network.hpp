// PeerNetwork: the thread behind PeerLinks. One ROUTER receives from all nodes and never sends, so that nothing is
// dropped at its high-water mark and no identity is needed: who sent a message says its User-Id, the key that the gate
// admitted. To each node leads a DEALER per channel, which can be watched for room. The thread sleeps in epoll: a wait
// costs what is ready, not what is connected. What another thread sends on `control` while it sleeps goes out on that
// thread, where somebody may wait for each frame: that saves waking it up.
#pragma once

#include <zmq.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "cluster/peer_gate.hpp"
#include "cluster/peer_links.hpp"
#include "cluster/peer_node.hpp"
#include "cluster/peer_outbox.hpp"
#include "cluster/send_rate.hpp"

namespace outlast::cluster {

// More nodes than this are not linked to.
inline constexpr std::size_t peers_max = 4'096;

// outbox(), send(), wake and stop: any thread. The rest: whoever has the turn, which is the network thread unless it
// sleeps; or before start().
class PeerNetwork {
 public:
  PeerNetwork(PeerLinkOptions options, std::string public_key, const Clock& clock, PeerHandlers handlers);
  ~PeerNetwork();

  // Throws zmq::error_t.
  void bind();
  // Throws std::system_error.
  void start();
  // Says goodbye to every peer and joins the thread.
  void stop();

  // As PeerLinks.
  Result<void> send(const std::string& name, Channel channel, FramePtr frame);
  [[nodiscard]] PeerOutbox& outbox() { return outbox_; }
  [[nodiscard]] const PeerOutbox& outbox() const { return outbox_; }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }

 private:
  void run();
  void sleep(std::unique_lock<std::mutex>& turn);
  void watch(int descriptor);

  void apply_peers(std::vector<PeerAddress> peers);
  [[nodiscard]] bool acceptable(const PeerAddress& address) const;
  void open(PeerNode& node);
  [[nodiscard]] bool connect(PeerNode& node);
  void renew_if_unreachable(PeerNode& node);
  void close(PeerNode& node, const std::string& why);
  void cut_off(PeerNode& node, const std::string& why);

  void receive();
  void on_message(const zmq::message_t& connection, zmq::message_t& body, int parts);
  void note_connection(PeerNode& node, const zmq::message_t& connection, const peer::Message& message);
  void count_failed_handshakes();
  void take_outgoing();
  void take_outgoing(PeerNode& node);
  void flush_due(PeerNode& node);
  void flush_all();
  bool flush(PeerNode& node);
  bool flush_channel(PeerNode& node, Channel channel);
  [[nodiscard]] bool room(PeerNode& node, Channel channel);
  void send(PeerNode& node, Channel channel, const peer::Message& message);
  void report_held(PeerNode& node);
  void tick();
  void log_strangers();

  const PeerLinkOptions options_;
  const std::string public_key_;
  const Clock& clock_;
  const PeerHandlers user_;
  PeerHandlers handlers_;  // of the sessions
  PeerOutbox outbox_;
  SendRate rate_;
  std::mutex turn_;  // of all that follows
  PeerCounters counters_;
  SessionNumbers numbers_;

  int poller_;
  zmq::context_t context_;
  std::unordered_map<std::string, std::unique_ptr<PeerNode>> nodes_;  // by name
  std::unordered_map<std::string, PeerNode*> by_key_;
  PeerGate gate_;
  zmq::socket_t router_;
  zmq::socket_t monitor_;
  std::string endpoint_;
  std::thread thread_;

  PeerWatch own_watch_;
  std::vector<std::string> dirty_;
  PeerOutbox::Frames frames_;
  std::vector<PeerNode*> flush_list_;
  bool heard_all_ = true;
  bool gate_empty_ = true;
  std::uint64_t failed_handshakes_ = 0;
  std::uint64_t strangers_logged_ = 0;
  std::int64_t next_stranger_log_ns_ = 0;
  std::int64_t now_ns_ = 0;
  std::int64_t tick_ns_ = 0;
  std::int64_t next_tick_ns_ = 0;
  std::atomic<bool> stopping_{false};
};

}  // namespace outlast::cluster
