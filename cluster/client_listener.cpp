#include "cluster/client_listener.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <zmq.hpp>

#include "cluster/call_state.hpp"
#include "cluster/curve.hpp"
#include "cluster/durations.hpp"
#include "cluster/network_thread.hpp"
#include "cluster/node_list.hpp"
#include "cluster/socket_options.hpp"
#include "cluster/zap.hpp"
#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr const char* zap_domain = "outlast-clients";
constexpr int client_frames_per_turn = 256;       // then what lanes have queued gets its turn
constexpr std::int64_t tick_ns = 250'000'000;
constexpr long retry_full_peer_ms = 2;       // ROUTER cannot be polled for one peer's room
constexpr int answers_linger_ms = 200;       // so that the last answers of a drained node leave
constexpr std::size_t stranger_bytes_max = 4096;  // no hello is larger

struct Call {
  std::shared_ptr<CallState> state;
  std::int64_t deadline_ns = 0;
  std::uint64_t grants_seen = 0;
  std::int64_t waits_since_ns = 0;  // 0: does not wait for credit
};

struct Peer {
  std::string key_text;  // a secret; kept because every chat is authenticated again
  std::string client_name;
  std::int64_t last_heard_ns = 0;
  std::int64_t last_ping_ns = 0;
  std::unordered_map<std::uint64_t, Call> calls;
  std::deque<FramePtr> queue;  // what the socket had no room for
  std::size_t queue_bytes = 0;
  bool gone = false;  // swept at the end of the turn
};

enum class Sent { yes, full, unreachable };

}  // namespace

// Everything but counters, wake-ups and flags belongs to the network thread.
class ClientListener::Network {
 public:
  Network(ListenerOptions options, std::string public_key, const Clock& clock, Authenticate authenticate,
          OnCall on_call)
      : options_(std::move(options)),
        public_key_(std::move(public_key)),
        clock_(clock),
        authenticate_(std::move(authenticate)),
        on_call_(std::move(on_call)),
        outbox_(std::make_shared<Outbox>()),
        zap_(context_, zap_domain),
        router_(context_, zmq::socket_type::router) {}

  // Throws zmq::error_t.
  void bind();
  void start() { thread_ = start_without_signals([this] { run(); }); }
  void stop();

  void drain() {
    drain_asked_ = true;
    outbox_->wake();
  }
  Result<void> set_nodes(link::Nodes nodes);
  [[nodiscard]] ListenerCounters counters() const;
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] const std::string& public_key() const { return public_key_; }

 private:
  using Peers = std::unordered_map<std::string, Peer>;

  void run();
  void sleep();
  void take_outgoing();
  void receive();
  void on_frame(const std::string& id, std::span<const std::byte> bytes);
  void on_message(const std::string& id, Peer* peer, link::ClientMessage message);
  void on_hello(const std::string& id, Peer* peer, link::Hello hello);
  void on_chat(const std::string& id, Peer& peer, link::Chat chat);
  [[nodiscard]] std::optional<link::RequestError> refusal(const Peer& peer, const link::Chat& chat,
                                                          const VirtualKey* key) const;
  void refuse(const std::string& id, Peer* peer, link::RequestError error);
  void tick();
  void check_calls(Peer& peer);
  void say_goodbye();
  void tell_nodes();
  void sweep();
  void cancel_all(Peer& peer, CancelReason reason);

  void send(const std::string& id, Peer* peer, const link::NodeMessage& message);
  void send_frame(const std::string& id, Peer& peer, FramePtr frame);
  void retry_queues();
  Sent try_send(const std::string& id, const Frame& frame);

  const ListenerOptions options_;
  const std::string public_key_;
  const Clock& clock_;
  const Authenticate authenticate_;
  const OnCall on_call_;
  const std::shared_ptr<Outbox> outbox_;
  zmq::context_t context_;
  ZapHandler zap_;
  zmq::socket_t router_;
  std::string endpoint_;
  std::thread thread_;

  Peers peers_;
  std::vector<Outgoing> outgoing_;
  std::vector<std::string> full_peers_;
  bool any_gone_ = false;
  bool received_all_ = true;
  bool draining_ = false;
  std::int64_t now_ns_ = 0;
  std::int64_t next_tick_ns_ = 0;
  std::uint64_t next_ping_ = 1;

  std::mutex nodes_mutex_;
  FramePtr nodes_;              // under nodes_mutex_; null: nothing was said about nodes
  bool nodes_changed_ = false;  // under nodes_mutex_

  std::atomic<bool> stopping_{false};
  std::atomic<bool> drain_asked_{false};
  std::atomic<std::uint64_t> peers_now_{0};
  std::atomic<std::uint64_t> calls_now_{0};
  std::atomic<std::uint64_t> calls_total_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> peers_lost_{0};
};

void ClientListener::Network::bind() {
  set_link_options(router_, options_.limits.frame_bytes_max, LinkEnd::binds);
  router_.set(zmq::sockopt::router_mandatory, true);
  router_.set(zmq::sockopt::curve_server, true);
  router_.set(zmq::sockopt::curve_secretkey, options_.secret_key);
  router_.set(zmq::sockopt::zap_domain, std::string(zap_domain));
  const int enforce = 1;
  if (zmq_setsockopt(router_.handle(), zap_enforce_domain_option, &enforce, sizeof enforce) != 0) throw zmq::error_t();
  router_.bind(options_.listen);
  endpoint_ = router_.get(zmq::sockopt::last_endpoint);
}

void ClientListener::Network::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  outbox_->wake();
  thread_.join();
}

Result<void> ClientListener::Network::set_nodes(link::Nodes nodes) {
  choose_some(nodes.nodes, link::nodes_max, std::hash<std::string>()(options_.node_name), public_key_);
  auto frame = link::encode(link::NodeMessage(std::move(nodes)));
  if (!frame) return fail(std::move(frame.error()));
  const std::lock_guard lock(nodes_mutex_);
  nodes_ = std::move(*frame);
  nodes_changed_ = true;
  return {};
}

ListenerCounters ClientListener::Network::counters() const {
  return {peers_now_, calls_now_, calls_total_, refused_, peers_lost_};
}

void ClientListener::Network::run() {
  now_ns_ = clock_.monotonic_ns();
  next_tick_ns_ = now_ns_ + tick_ns;
  while (!stopping_) {
    now_ns_ = clock_.monotonic_ns();
    if (drain_asked_ && !draining_) say_goodbye();
    take_outgoing();
    retry_queues();
    zap_.answer();
    receive();
    if (now_ns_ >= next_tick_ns_) tick();
    if (any_gone_) sweep();
    sleep();
  }
  for (auto& [id, peer] : peers_) cancel_all(peer, CancelReason::shutdown);
  take_outgoing();
  outbox_->close();
  if (draining_) router_.set(zmq::sockopt::linger, answers_linger_ms);
}

void ClientListener::Network::sleep() {
  if (!received_all_ || stopping_ || !outbox_->may_sleep()) return;
  zmq::pollitem_t items[] = {{router_.handle(), 0, ZMQ_POLLIN, 0},
                             {zap_.socket().handle(), 0, ZMQ_POLLIN, 0},
                             {nullptr, outbox_->descriptor(), ZMQ_POLLIN, 0}};
  const std::int64_t until_tick_ms = (next_tick_ns_ - now_ns_) / 1'000'000 + 1;
  const long timeout_ms = full_peers_.empty() ? static_cast<long>(std::max<std::int64_t>(until_tick_ms, 1))
                                              : retry_full_peer_ms;
  // An interrupted poll is a turn like any other.
  (void)zmq_poll(items, 3, timeout_ms);
  outbox_->clear_wake_up();
}

void ClientListener::Network::take_outgoing() {
  outbox_->take(outgoing_);
  for (Outgoing& out : outgoing_) {
    const auto found = peers_.find(out.peer);
    if (found == peers_.end()) continue;
    Peer& peer = found->second;
    if (!peer.gone) send_frame(out.peer, peer, std::move(out.frame));
    if (out.ends_call && peer.calls.erase(out.request_id) > 0) --calls_now_;
  }
  outgoing_.clear();
}

void ClientListener::Network::receive() {
  zmq::message_t id;
  zmq::message_t body;
  for (int i = 0; i < client_frames_per_turn; ++i) {
    if (!router_.recv(id, zmq::recv_flags::dontwait)) {
      received_all_ = true;
      return;
    }
    bool more = id.more();
    int parts = 0;
    while (more) {
      // Parts of one message arrive together, so this does not wait.
      if (!router_.recv(body, zmq::recv_flags::none)) break;
      more = body.more();
      ++parts;
    }
    if (parts == 1) on_frame(id.to_string(), {static_cast<const std::byte*>(body.data()), body.size()});
  }
  received_all_ = false;
}

void ClientListener::Network::on_frame(const std::string& id, std::span<const std::byte> bytes) {
  const auto found = peers_.find(id);
  Peer* peer = found == peers_.end() || found->second.gone ? nullptr : &found->second;
  if (peer != nullptr) peer->last_heard_ns = now_ns_;
  if (peer == nullptr && bytes.size() > stranger_bytes_max) {
    return refuse(id, peer, {0, link::ErrorKind::protocol, "say hello before anything else", false, 0});
  }
  auto message = link::decode_from_client(bytes);
  if (message) return on_message(id, peer, std::move(*message));
  if (is(message.error(), FrameError::unknown_kind)) return;
  refuse(id, peer, {0, link::ErrorKind::protocol, "a frame was refused: " + message.error().message, false, 0});
}

void ClientListener::Network::on_message(const std::string& id, Peer* peer, link::ClientMessage message) {
  if (auto* hello = std::get_if<link::Hello>(&message)) return on_hello(id, peer, std::move(*hello));
  if (auto* ping = std::get_if<link::Ping>(&message)) return send(id, peer, link::Pong{ping->number});
  if (peer == nullptr) {
    const auto* chat = std::get_if<link::Chat>(&message);
    return refuse(id, peer, {chat != nullptr ? chat->request_id : 0, link::ErrorKind::protocol,
                             "say hello before anything else", false, 0});
  }
  if (auto* chat = std::get_if<link::Chat>(&message)) return on_chat(id, *peer, std::move(*chat));
  if (const auto* grant = std::get_if<link::Grant>(&message)) {
    const auto call = peer->calls.find(grant->request_id);
    if (call != peer->calls.end()) call->second.state->grant(grant->credit);
  } else if (const auto* cancel = std::get_if<link::Cancel>(&message)) {
    const auto call = peer->calls.find(cancel->request_id);
    if (call == peer->calls.end()) return;
    const auto state = std::move(call->second.state);
    peer->calls.erase(call);
    --calls_now_;
    state->cancel(CancelReason::client_cancelled);
  }
}

void ClientListener::Network::on_hello(const std::string& id, Peer* peer, link::Hello hello) {
  using link::ErrorKind;
  if (hello.version != link::protocol_version) {
    return refuse(id, peer, {0, ErrorKind::unsupported_version,
                             "this node speaks version " + std::to_string(link::protocol_version) +
                                 " of the link, the client version " + std::to_string(hello.version),
                             false, 0});
  }
  if (draining_) return refuse(id, peer, {0, ErrorKind::draining, "the node is draining", true, 0});
  if (!authenticate_(hello.virtual_key)) {
    return refuse(id, peer, {0, ErrorKind::unauthenticated, "the virtual key is unknown, mistyped or revoked", false, 0});
  }
  if (peer == nullptr && peers_.size() >= options_.limits.peers_max) {
    return refuse(id, peer, {0, ErrorKind::overloaded, "the node has as many clients as it takes", true, 1000});
  }
  Peer& known = peers_[id];
  known.key_text = std::move(hello.virtual_key);
  known.client_name = std::move(hello.client_name);
  known.last_heard_ns = now_ns_;
  peers_now_ = peers_.size();
  send(id, &known, link::Welcome{link::protocol_version, options_.node_name, options_.incarnation});
  FramePtr nodes;
  {
    const std::lock_guard lock(nodes_mutex_);
    nodes = nodes_;
  }
  if (nodes) send_frame(id, known, std::move(nodes));
}

std::optional<link::RequestError> ClientListener::Network::refusal(const Peer& peer, const link::Chat& chat,
                                                                   const VirtualKey* key) const {
  using link::ErrorKind;
  const auto error = [&chat](ErrorKind kind, const char* message, bool retryable) {
    return link::RequestError{chat.request_id, kind, message, retryable, 0};
  };
  if (draining_) return error(ErrorKind::draining, "the node is draining", true);
  if (key == nullptr) return error(ErrorKind::unauthenticated, "the virtual key was revoked", false);
  if (chat.request_id == 0) return error(ErrorKind::protocol, "request ids start at 1", false);
  if (peer.calls.contains(chat.request_id)) {
    return error(ErrorKind::protocol, "the link has a running request of this id", false);
  }
  if (peer.calls.size() >= options_.limits.calls_per_peer_max) {
    return error(ErrorKind::overloaded, "the link has as many requests in flight as it may", true);
  }
  return std::nullopt;
}

void ClientListener::Network::on_chat(const std::string& id, Peer& peer, link::Chat chat) {
  auto key = authenticate_(peer.key_text);
  if (auto error = refusal(peer, chat, key.get())) return refuse(id, &peer, std::move(*error));

  const std::uint32_t deadline_ms =
      chat.deadline_ms == 0 ? options_.limits.deadline_ms_max : std::min(chat.deadline_ms, options_.limits.deadline_ms_max);
  Call call;
  call.state = std::make_shared<CallState>(outbox_, id, chat.request_id, chat.credit);
  call.deadline_ns = now_ns_ + ns_of(deadline_ms);
  auto handed_out = std::make_shared<ChatCall>(call.state, std::move(chat.request), std::move(key), peer.client_name,
                                               call.deadline_ns);
  peer.calls.emplace(chat.request_id, std::move(call));
  ++calls_now_;
  ++calls_total_;
  on_call_(std::move(handed_out));
}

void ClientListener::Network::refuse(const std::string& id, Peer* peer, link::RequestError error) {
  ++refused_;
  send(id, peer, error);
}

// With the tick, so that a list that changes often does not flood thousands of clients.
void ClientListener::Network::tell_nodes() {
  FramePtr nodes;
  {
    const std::lock_guard lock(nodes_mutex_);
    if (!std::exchange(nodes_changed_, false)) return;
    nodes = nodes_;
  }
  for (auto& [id, peer] : peers_) send_frame(id, peer, nodes);
}

void ClientListener::Network::tick() {
  next_tick_ns_ = now_ns_ + tick_ns;
  tell_nodes();
  for (auto& [id, peer] : peers_) {
    if (peer.gone) continue;
    const std::int64_t silent_ns = now_ns_ - peer.last_heard_ns;
    if (silent_ns > ns_of(options_.limits.silence_ms_max)) {
      peer.gone = any_gone_ = true;
      continue;
    }
    const std::int64_t ping_ns = ns_of(options_.limits.ping_ms);
    if (silent_ns >= ping_ns && now_ns_ - peer.last_ping_ns >= ping_ns) {
      peer.last_ping_ns = now_ns_;
      send(id, &peer, link::Ping{next_ping_++});
    }
    check_calls(peer);
  }
}

void ClientListener::Network::check_calls(Peer& peer) {
  for (auto& [request_id, call] : peer.calls) {
    if (now_ns_ >= call.deadline_ns) {
      call.state->cancel(CancelReason::deadline,
                         link::RequestError{request_id, link::ErrorKind::deadline_exceeded,
                                            "the request's deadline has passed", false, 0});
      continue;
    }
    const std::uint64_t grants = call.state->grants();
    if (!call.state->waits_for_credit() || grants != call.grants_seen) {
      call.grants_seen = grants;
      call.waits_since_ns = 0;
    } else if (call.waits_since_ns == 0) {
      call.waits_since_ns = now_ns_;
    } else if (now_ns_ - call.waits_since_ns >= ns_of(options_.limits.no_credit_ms_max)) {
      call.state->cancel(CancelReason::no_credit,
                         link::RequestError{request_id, link::ErrorKind::slow_consumer,
                                            "the client took nothing for too long", false, 0});
    }
  }
}

void ClientListener::Network::say_goodbye() {
  draining_ = true;
  for (auto& [id, peer] : peers_) {
    if (!peer.gone) send(id, &peer, link::Goodbye{"the node is draining"});
  }
}

void ClientListener::Network::sweep() {
  any_gone_ = false;
  for (auto i = peers_.begin(); i != peers_.end();) {
    if (!i->second.gone) {
      ++i;
      continue;
    }
    Peer lost = std::move(i->second);
    i = peers_.erase(i);
    ++peers_lost_;
    cancel_all(lost, CancelReason::link_lost);
  }
  peers_now_ = peers_.size();
}

void ClientListener::Network::cancel_all(Peer& peer, CancelReason reason) {
  for (auto& [request_id, call] : peer.calls) call.state->cancel(reason);
  calls_now_ -= peer.calls.size();
  peer.calls.clear();
}

void ClientListener::Network::send(const std::string& id, Peer* peer, const link::NodeMessage& message) {
  auto frame = link::encode(message);
  check(frame.has_value(), "what the listener itself says is small");
  if (peer != nullptr) return send_frame(id, *peer, std::move(*frame));
  // A stranger gets one try: nothing is kept for it.
  (void)try_send(id, **frame);
}

void ClientListener::Network::send_frame(const std::string& id, Peer& peer, FramePtr frame) {
  if (peer.gone) return;
  const Sent sent = peer.queue.empty() ? try_send(id, *frame) : Sent::full;
  if (sent == Sent::yes) return;
  if (sent == Sent::full) {
    if (peer.queue.empty()) full_peers_.push_back(id);
    peer.queue_bytes += frame->size();
    peer.queue.push_back(std::move(frame));
    if (peer.queue_bytes <= options_.limits.peer_queue_bytes_max) return;
    log::warning("link.peer_given_up", {{"client", peer.client_name}, {"queued_bytes", peer.queue_bytes}});
  }
  peer.gone = any_gone_ = true;
}

void ClientListener::Network::retry_queues() {
  std::vector<std::string> still_full;
  for (const std::string& id : full_peers_) {
    const auto found = peers_.find(id);
    if (found == peers_.end() || found->second.gone) continue;
    Peer& peer = found->second;
    Sent sent = Sent::yes;
    while (!peer.queue.empty() && (sent = try_send(id, *peer.queue.front())) == Sent::yes) {
      peer.queue_bytes -= peer.queue.front()->size();
      peer.queue.pop_front();
    }
    if (sent == Sent::full) still_full.push_back(id);
    if (sent == Sent::unreachable) peer.gone = any_gone_ = true;
  }
  full_peers_.swap(still_full);
}

Sent ClientListener::Network::try_send(const std::string& id, const Frame& frame) {
  // When the identity is refused the whole message is abandoned: a body sent now would be taken for an identity.
  if (zmq_send(router_.handle(), id.data(), id.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
    return errno == EAGAIN || errno == EINTR ? Sent::full : Sent::unreachable;
  }
  const auto bytes = frame.bytes();
  return zmq_send(router_.handle(), bytes.data(), bytes.size(), ZMQ_DONTWAIT) < 0 ? Sent::unreachable : Sent::yes;
}

Result<std::unique_ptr<ClientListener>> ClientListener::start(ListenerOptions options, const Clock& clock,
                                                              Authenticate authenticate, OnCall on_call) {
  auto public_key = curve_public_key(options.secret_key);
  if (!public_key) return fail(std::move(public_key.error()));
  if (!options.listen.starts_with("tcp://")) {
    return fail(LinkError::bad_address, "\"" + options.listen + "\" is not an address; write tcp://HOST:PORT");
  }
  const std::string listen = options.listen;
  try {
    auto network = std::make_unique<Network>(std::move(options), std::move(*public_key), clock,
                                             std::move(authenticate), std::move(on_call));
    network->bind();
    network->start();
    return std::unique_ptr<ClientListener>(new ClientListener(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::bad_address, "cannot listen on " + listen + ": " + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

ClientListener::ClientListener(std::unique_ptr<Network> network) : network_(std::move(network)) {}
ClientListener::~ClientListener() { network_->stop(); }
const std::string& ClientListener::endpoint() const { return network_->endpoint(); }
const std::string& ClientListener::public_key() const { return network_->public_key(); }
void ClientListener::drain() { network_->drain(); }
Result<void> ClientListener::set_nodes(link::Nodes nodes) { return network_->set_nodes(std::move(nodes)); }
ListenerCounters ClientListener::counters() const { return network_->counters(); }

}  // namespace outlast::cluster
