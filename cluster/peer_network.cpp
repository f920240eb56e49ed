#include "cluster/peer_network.hpp"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "cluster/network_thread.hpp"
#include "cluster/socket_options.hpp"
#include "cluster/zap.hpp"
#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr const char* zap_domain = "outlast-nodes";
constexpr int peer_frames_per_turn = 64;  // then what others have left gets its turn
constexpr std::size_t received_bytes_max = 256U << 10;  // the same, for large messages
constexpr int received_messages_max = 64;  // in ZeroMQ, per connection
constexpr int listen_backlog = 1'024;
constexpr std::size_t flushed_bytes_max = 256U << 10;  // per turn and channel, so that bulk delays nothing else
constexpr std::int64_t tick_ms_min = 5;
constexpr std::int64_t tick_ms_max = 125;
constexpr std::int64_t stranger_log_ns = 10'000'000'000;
constexpr int failed_handshake_events =
    ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;
constexpr int events_max = 64;
constexpr int keepalive_idle_s = 4;
constexpr int keepalive_interval_s = 2;
constexpr int keepalive_tries = 3;
constexpr int io_threads = 2;  // the second for bulk: cluster/peer_node.cpp

thread_local const PeerNetwork* of_this_thread = nullptr;  // on network threads: a handler may send

std::span<const std::byte> bytes_of(const zmq::message_t& message) {
  return {static_cast<const std::byte*>(message.data()), message.size()};
}

}  // namespace

PeerNetwork::PeerNetwork(PeerLinkOptions options, std::string public_key, const Clock& clock, PeerHandlers handlers)
    : options_(std::move(options)),
      public_key_(std::move(public_key)),
      clock_(clock),
      user_(std::move(handlers)),
      outbox_(options_.limits),
      numbers_(options_.incarnation),
      poller_(::epoll_create1(EPOLL_CLOEXEC)),
      context_(io_threads, static_cast<int>(channel_count * peers_max + 16)),
      gate_(context_, zap_domain, [this](const std::string& key) { return by_key_.contains(key); }),
      router_(context_, zmq::socket_type::router),
      monitor_(context_, zmq::socket_type::pair),
      tick_ns_(std::clamp<std::int64_t>(options_.limits.heartbeat_ms / 4, tick_ms_min, tick_ms_max) * 1'000'000) {
  check(poller_ >= 0, "the process may open an epoll descriptor");
  handlers_.on_up = [this](const Peer& peer) {
    outbox_.open(peer, nodes_.at(peer.node)->session->frame_bytes_max());
    log::info("peer.up", {{"node", peer.node}, {"incarnation", peer.incarnation.to_string()}});
    user_.on_up(peer);
  };
  handlers_.on_down = [this](const Peer& peer, const std::string& why) {
    outbox_.close(peer.node);
    log::info("peer.down", {{"node", peer.node}, {"reason", why}});
    user_.on_down(peer, why);
  };
  handlers_.on_frame = user_.on_frame;
}

PeerNetwork::~PeerNetwork() {
  stop();
  // First of all: a monitor whose reader has gone would block ZeroMQ's own thread at its next event.
  zmq_socket_monitor(router_.handle(), nullptr, 0);
  nodes_.clear();  // while their poller is open
  ::close(poller_);
}

void PeerNetwork::bind() {
  set_link_options(router_, options_.limits.frame_bytes_max + peer::overhead_bytes_max, LinkEnd::binds);
  router_.set(zmq::sockopt::rcvhwm, received_messages_max);
  router_.set(zmq::sockopt::backlog, listen_backlog);
  // What nobody is at the other end of goes: nodes send no pings of ZeroMQ's (cluster/peer_node.cpp).
  router_.set(zmq::sockopt::tcp_keepalive, 1);
  router_.set(zmq::sockopt::tcp_keepalive_idle, keepalive_idle_s);
  router_.set(zmq::sockopt::tcp_keepalive_intvl, keepalive_interval_s);
  router_.set(zmq::sockopt::tcp_keepalive_cnt, keepalive_tries);
  router_.set(zmq::sockopt::router_mandatory, true);
  if (options_.listen.find('[') != std::string::npos) router_.set(zmq::sockopt::ipv6, true);
  router_.set(zmq::sockopt::curve_server, true);
  router_.set(zmq::sockopt::curve_secretkey, options_.secret_key);
  router_.set(zmq::sockopt::zap_domain, std::string(zap_domain));
  const int enforce = 1;
  if (zmq_setsockopt(router_.handle(), zap_enforce_domain_option, &enforce, sizeof enforce) != 0) throw zmq::error_t();
  constexpr const char* monitor_address = "inproc://peer-monitor";
  if (zmq_socket_monitor(router_.handle(), monitor_address, failed_handshake_events) != 0) throw zmq::error_t();
  monitor_.set(zmq::sockopt::linger, 0);
  monitor_.set(zmq::sockopt::rcvhwm, 0);  // ZeroMQ's own thread would wait for room; every turn empties it
  monitor_.connect(monitor_address);
  router_.bind(options_.listen);
  endpoint_ = router_.get(zmq::sockopt::last_endpoint);
}

void PeerNetwork::start() {
  watch(outbox_.descriptor());
  watch(router_.get(zmq::sockopt::fd));
  watch(gate_.socket().get(zmq::sockopt::fd));
  watch(monitor_.get(zmq::sockopt::fd));
  thread_ = start_without_signals([this] { run(); });
}

void PeerNetwork::watch(int descriptor) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &own_watch_;
  check(::epoll_ctl(poller_, EPOLL_CTL_ADD, descriptor, &event) == 0, "a descriptor can be watched",
        std::strerror(errno));
}

void PeerNetwork::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  outbox_.wake();
  thread_.join();
}

void PeerNetwork::run() {
  of_this_thread = this;
  std::unique_lock turn(turn_);
  while (!stopping_) {
    now_ns_ = clock_.monotonic_ns();
    if (auto peers = outbox_.take_peers()) apply_peers(std::move(*peers));
    gate_empty_ = gate_.answer();
    count_failed_handshakes();
    receive();
    if (now_ns_ >= next_tick_ns_) tick();
    take_outgoing();
    flush_all();
    outbox_.publish(counters_);
    sleep(turn);
  }
  for (auto& [name, node] : nodes_) close(*node, "the node stops");
  outbox_.publish(counters_);
}

void PeerNetwork::sleep(std::unique_lock<std::mutex>& turn) {
  if (!heard_all_ || !gate_empty_ || !flush_list_.empty() || stopping_ || !outbox_.may_sleep()) return;
  std::array<epoll_event, events_max> events;
  const std::int64_t until_tick_ms = std::max<std::int64_t>((next_tick_ns_ - now_ns_) / 1'000'000 + 1, 1);
  // An interrupted wait is a turn like any other.
  turn.unlock();
  const int count = ::epoll_wait(poller_, events.data(), events_max, static_cast<int>(until_tick_ms));
  turn.lock();
  outbox_.clear_wake_up();
  for (int i = 0; i < count; ++i) {
    const PeerWatch& watch = *static_cast<const PeerWatch*>(events[static_cast<std::size_t>(i)].data.ptr);
    if (watch.node == nullptr) continue;  // every turn looks at these
    (void)room(*watch.node, watch.channel);
    flush_due(*watch.node);
  }
}

// ---- what comes in

void PeerNetwork::receive() {
  heard_all_ = false;
  std::size_t bytes = 0;
  for (int i = 0; i < peer_frames_per_turn && bytes < received_bytes_max; ++i) {
    zmq::message_t connection;
    zmq::message_t body;
    if (!router_.recv(connection, zmq::recv_flags::dontwait)) {
      heard_all_ = true;
      return;
    }
    bool more = connection.more();
    int parts = 0;
    while (more) {
      // Parts of one message arrive together, so this does not wait.
      if (!router_.recv(body, zmq::recv_flags::none)) break;
      more = body.more();
      ++parts;
    }
    bytes += body.size();
    if (parts > 0) on_message(connection, body, parts);
  }
}

void PeerNetwork::on_message(const zmq::message_t& connection, zmq::message_t& body, int parts) {
  const char* const key = zmq_msg_gets(body.handle(), "User-Id");
  const auto found = key == nullptr ? by_key_.end() : by_key_.find(key);
  if (found == by_key_.end()) {  // revoked since it was admitted
    ++counters_.ignored;
    return;
  }
  PeerNode& node = *found->second;
  if (!node.session) return;  // cut off
  if (parts != 1) return cut_off(node, "a message of several parts");
  auto message = peer::decode(bytes_of(body));
  if (!message) {
    if (!is(message.error(), FrameError::unknown_kind)) cut_off(node, message.error().message);
    return;
  }
  note_connection(node, connection, *message);
  if (auto received = node.session->receive(std::move(*message), now_ns_); !received) {
    return cut_off(node, received.error().message);
  }
  flush_due(node);
}

// The router numbers connections: a newer one on the same channel took the place of one that broke.
void PeerNetwork::note_connection(PeerNode& node, const zmq::message_t& connection, const peer::Message& message) {
  const auto* data = std::get_if<peer::Data>(&message.body);
  const auto* heartbeat = std::get_if<peer::Heartbeat>(&message.body);
  if (data == nullptr && heartbeat == nullptr) return;
  std::string& newest = node.connections[data != nullptr ? data->channel : heartbeat->channel];
  const std::string_view id = connection.to_string_view();
  if (id <= newest) return;
  if (!newest.empty()) ++counters_.reconnects;
  newest = id;
}

void PeerNetwork::count_failed_handshakes() {
  zmq::message_t part;
  while (monitor_.recv(part, zmq::recv_flags::dontwait)) {
    ++failed_handshakes_;
    while (part.more()) {
      if (!monitor_.recv(part, zmq::recv_flags::none)) break;
    }
  }
  counters_.strangers_refused = gate_.refused() + failed_handshakes_;
}

// ---- what goes out

Result<void> PeerNetwork::send(const std::string& name, Channel channel, FramePtr frame) {
  if (channel != Channel::control || of_this_thread == this) return outbox_.send(name, channel, std::move(frame));
  const std::int64_t now_ns = clock_.monotonic_ns();
  if (rate_.note(now_ns)) return outbox_.send(name, channel, std::move(frame));
  // Who has the turn will find it soon.
  const std::unique_lock turn(turn_, std::try_to_lock);
  if (!turn) return outbox_.send(name, channel, std::move(frame));
  const auto found = nodes_.find(name);
  if (found == nodes_.end() || !found->second->session) return outbox_.send(name, channel, std::move(frame));
  PeerNode& node = *found->second;
  if (Result<void> left = outbox_.leave(name, channel, std::move(frame)); !left) return left;
  now_ns_ = now_ns;
  take_outgoing(node);
  if (flush(node)) {
    flush_due(node);
    outbox_.wake();
  }
  outbox_.publish(counters_);
  return {};
}

void PeerNetwork::take_outgoing() {
  outbox_.take_dirty(dirty_);
  for (const std::string& name : dirty_) {
    const auto found = nodes_.find(name);
    if (found == nodes_.end() || !found->second->session) continue;
    take_outgoing(*found->second);
    flush_due(*found->second);
  }
}

void PeerNetwork::take_outgoing(PeerNode& node) {
  outbox_.take(node.address.node, frames_);
  for (std::size_t c = 0; c < channel_count; ++c) {
    for (FramePtr& frame : frames_[c]) {
      const auto queued = node.session->queue(static_cast<Channel>(c), std::move(frame));
      check(queued.has_value(), "the outbox admits what a session takes");
    }
  }
}

void PeerNetwork::flush_due(PeerNode& node) {
  if (!std::exchange(node.flush_due, true)) flush_list_.push_back(&node);
}

void PeerNetwork::flush_all() {
  std::vector<PeerNode*> due;
  due.swap(flush_list_);
  for (PeerNode* node : due) {
    node->flush_due = false;
    if (node->session && flush(*node)) flush_due(*node);
  }
}

// True when more could be sent at once.
bool PeerNetwork::flush(PeerNode& node) {
  bool more = false;
  for (std::size_t c = 0; c < channel_count; ++c) more = flush_channel(node, static_cast<Channel>(c)) || more;
  if (node.session->ack_due() && room(node, Channel::control)) {
    send(node, Channel::control, node.session->ack_message(now_ns_));
  }
  report_held(node);
  return more;
}

bool PeerNetwork::flush_channel(PeerNode& node, Channel channel) {
  std::size_t bytes = 0;
  while (node.session->has_output(channel)) {
    if (!room(node, channel)) return false;
    if (bytes >= flushed_bytes_max) return true;
    const peer::Message message = node.session->next(channel, now_ns_);
    bytes += sizeof message;
    if (const auto* data = std::get_if<peer::Data>(&message.body)) {
      for (const FramePtr& frame : data->frames) bytes += frame->size();
    }
    send(node, channel, message);
  }
  return false;
}

bool PeerNetwork::room(PeerNode& node, Channel channel) {
  if (!node.sockets) return false;
  bool& before = node.writable[static_cast<std::size_t>(channel)];
  const bool now = node.sockets->writable(channel);
  if (now && !before && node.session) node.session->on_writable(channel);
  before = now;
  return now;
}

void PeerNetwork::send(PeerNode& node, Channel channel, const peer::Message& message) {
  auto encoded = peer::encode(message);
  check(encoded.has_value(), "what a session says fits a message");
  // What is lost here is missed by the other node and sent again, as what a connection loses.
  (void)node.sockets->send(channel, std::move(*encoded));
}

void PeerNetwork::report_held(PeerNode& node) {
  std::array<PeerOutbox::Held, channel_count> held;
  for (std::size_t c = 0; c < channel_count; ++c) {
    held[c] = {node.session->queued_frames(static_cast<Channel>(c)),
               node.session->queued_bytes(static_cast<Channel>(c))};
  }
  if (held == node.held) return;
  node.held = held;
  outbox_.hold(node.address.node, held);
}

// ---- time

void PeerNetwork::tick() {
  next_tick_ns_ = now_ns_ + tick_ns_;
  for (auto& [name, node] : nodes_) {
    if (node->session) {
      renew_if_unreachable(*node);
      node->session->tick(now_ns_);
      flush_due(*node);
    } else if (now_ns_ >= node->closed_until_ns) {
      open(*node);
    }
  }
  log_strangers();
}

void PeerNetwork::log_strangers() {
  if (counters_.strangers_refused == strangers_logged_ || now_ns_ < next_stranger_log_ns_) return;
  log::warning("peer.strangers_refused", {{"count", counters_.strangers_refused - strangers_logged_}});
  strangers_logged_ = counters_.strangers_refused;
  next_stranger_log_ns_ = now_ns_ + stranger_log_ns;
}

}  // namespace outlast::cluster
