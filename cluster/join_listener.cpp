#include "cluster/join_listener.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include <zmq.hpp>

#include "cluster/curve.hpp"
#include "cluster/durations.hpp"
#include "cluster/join_gate.hpp"
#include "cluster/network_thread.hpp"
#include "cluster/socket_options.hpp"
#include "cluster/wake_queue.hpp"
#include "cluster/zap.hpp"
#include "core/check.hpp"
#include "core/log.hpp"

namespace outlast::cluster {
namespace {

constexpr const char* zap_domain = "outlast-join";
constexpr int joins_per_turn = 64;
constexpr std::int64_t tick_ns = 250'000'000;
constexpr int backlog = 64;
// An answer to a joiner that does not read it is given up.
constexpr int queued_answers_max = 4;

struct Answered {
  std::uint64_t ticket = 0;
  join::Answer answer;
};

// A request that the callback has in hand.
struct Pending {
  std::string id;  // of its link
  std::string node;
  std::string address;
  std::int64_t arrived_ns = 0;
};

struct Refusal {
  std::int64_t due_ns = 0;
  std::string id;
  join::Refused refused;
};

std::string property_of(const zmq::message_t& message, const char* name) {
  const char* value = zmq_msg_gets(message.handle(), name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

// Everything but counters and the queue belongs to the network thread.
class JoinListener::Network {
 public:
  Network(JoinListenerOptions options, std::string public_key, const Clock& clock, OnJoin on_join)
      : options_(std::move(options)),
        public_key_(std::move(public_key)),
        clock_(clock),
        on_join_(std::move(on_join)),
        answers_(std::make_shared<WakeQueue<Answered>>()),
        gate_(context_, zap_domain, options_.limits.handshakes_per_s),
        requests_(options_.limits.requests_per_s) {}
  ~Network() { close(); }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Throws zmq::error_t; then close() before the next try.
  void bind(const std::string& listen);
  void start() { thread_ = start_without_signals([this] { run(); }); }
  void stop();
  [[nodiscard]] JoinCounters counters() const;
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  [[nodiscard]] const std::string& public_key() const { return public_key_; }

 private:
  void close();
  void run();
  void sleep();
  void receive();
  void on_frame(const std::string& id, const zmq::message_t& body);
  void on_request(const std::string& id, std::string key, std::string address, join::Request request);
  [[nodiscard]] bool too_often(const std::string& address);
  void take_answers();
  void refuse(const std::string& id, std::int64_t arrived_ns, join::Refused refused);
  void send_due_refusals();
  void send(const std::string& id, const join::Answer& answer);
  void watch_connections();
  void tick();
  void drop_all();

  const JoinListenerOptions options_;
  const std::string public_key_;
  const Clock& clock_;
  const OnJoin on_join_;
  const std::shared_ptr<WakeQueue<Answered>> answers_;
  zmq::context_t context_;
  JoinGate gate_;
  RateBucket requests_;
  zmq::socket_t router_;
  zmq::socket_t monitor_;
  std::string endpoint_;
  std::thread thread_;

  std::unordered_map<std::uint64_t, Pending> pending_;
  std::unordered_map<std::string, RateBucket> addresses_;
  std::deque<Refusal> refusals_;  // by when they are due
  std::vector<Answered> answered_;
  std::uint64_t next_ticket_ = 1;
  std::uint64_t sockets_ = 0;  // made so far: each has a monitor of its own
  std::int64_t now_ns_ = 0;
  std::int64_t next_tick_ns_ = 0;
  bool received_all_ = true;

  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> requests_total_{0};
  std::atomic<std::uint64_t> welcomed_{0};
  std::atomic<std::uint64_t> refused_{0};
  std::atomic<std::uint64_t> malformed_{0};
  std::atomic<std::uint64_t> rate_limited_{0};
  std::atomic<std::uint64_t> handshakes_refused_{0};
  std::atomic<std::uint64_t> handshakes_failed_{0};
  std::atomic<std::uint64_t> connections_{0};
  std::atomic<std::uint64_t> disconnected_{0};
  std::atomic<std::uint64_t> all_dropped_{0};
};

void JoinListener::Network::bind(const std::string& listen) {
  router_ = zmq::socket_t(context_, zmq::socket_type::router);
  set_link_options(router_, join::request_bytes_max, LinkEnd::binds);
  router_.set(zmq::sockopt::sndhwm, queued_answers_max);
  router_.set(zmq::sockopt::rcvhwm, queued_answers_max);
  router_.set(zmq::sockopt::backlog, backlog);
  router_.set(zmq::sockopt::router_mandatory, true);
  router_.set(zmq::sockopt::curve_server, true);
  router_.set(zmq::sockopt::curve_secretkey, options_.secret_key);
  router_.set(zmq::sockopt::zap_domain, std::string(zap_domain));
  const int enforce = 1;
  if (zmq_setsockopt(router_.handle(), zap_enforce_domain_option, &enforce, sizeof enforce) != 0) throw zmq::error_t();

  const std::string watch = "inproc://join-monitor-" + std::to_string(++sockets_);
  constexpr int events = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH;
  if (zmq_socket_monitor(router_.handle(), watch.c_str(), events) != 0) throw zmq::error_t();
  monitor_ = zmq::socket_t(context_, zmq::socket_type::pair);
  monitor_.set(zmq::sockopt::linger, 0);
  monitor_.set(zmq::sockopt::rcvhwm, 0);  // a full one would stop ZeroMQ's own thread
  monitor_.connect(watch);
  router_.bind(listen);
  if (endpoint_.empty()) endpoint_ = router_.get(zmq::sockopt::last_endpoint);  // then others read it
}

// An event that finds nobody at the monitor's other end would stop ZeroMQ's own thread for ever.
void JoinListener::Network::close() {
  if (router_) (void)zmq_socket_monitor(router_.handle(), nullptr, 0);
  router_.close();
  monitor_.close();
}

void JoinListener::Network::stop() {
  if (!thread_.joinable()) return;
  stopping_ = true;
  answers_->wake();
  thread_.join();
}

JoinCounters JoinListener::Network::counters() const {
  return {requests_total_,     welcomed_,          refused_,     malformed_,    rate_limited_,
          handshakes_refused_, handshakes_failed_, connections_, disconnected_, all_dropped_};
}

void JoinListener::Network::run() {
  while (!stopping_) {
    now_ns_ = clock_.monotonic_ns();
    gate_.answer(now_ns_);
    handshakes_refused_ = gate_.refused();
    watch_connections();
    receive();
    take_answers();
    send_due_refusals();
    if (now_ns_ >= next_tick_ns_) tick();
    sleep();
  }
  answers_->close();
}

void JoinListener::Network::sleep() {
  if (!received_all_ || stopping_ || !answers_->may_sleep()) return;
  zmq::pollitem_t items[] = {{router_.handle(), 0, ZMQ_POLLIN, 0},
                             {gate_.socket().handle(), 0, ZMQ_POLLIN, 0},
                             {monitor_.handle(), 0, ZMQ_POLLIN, 0},
                             {nullptr, answers_->descriptor(), ZMQ_POLLIN, 0}};
  std::int64_t until_ns = next_tick_ns_;
  if (!refusals_.empty()) until_ns = std::min(until_ns, refusals_.front().due_ns);
  const std::int64_t timeout_ms = std::max<std::int64_t>((until_ns - now_ns_) / 1'000'000 + 1, 1);
  // An interrupted poll is a turn like any other.
  (void)zmq_poll(items, static_cast<int>(std::size(items)), static_cast<long>(timeout_ms));
  answers_->clear_wake_up();
}

void JoinListener::Network::receive() {
  zmq::message_t id;
  zmq::message_t body;
  for (int i = 0; i < joins_per_turn; ++i) {
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
    if (parts == 1) on_frame(id.to_string(), body);
    else ++malformed_;
  }
  received_all_ = false;
}

void JoinListener::Network::on_frame(const std::string& id, const zmq::message_t& body) {
  std::string address = property_of(body, "Peer-Address");
  // Before anything is looked at, so that garbage is bounded as well.
  if (too_often(address)) {
    ++rate_limited_;
    return send(id, join::Refused{join::RefusalKind::busy, "too many ask to join; try again in a while"});
  }
  auto request = join::decode_request({body.data<std::byte>(), body.size()});
  std::string key = property_of(body, "User-Id");
  if (!request || !is_curve_key(key)) {
    ++malformed_;
    return refuse(id, now_ns_, {join::RefusalKind::invalid, "this is no request of the join protocol"});
  }
  ++requests_total_;
  on_request(id, std::move(key), std::move(address), std::move(*request));
}

void JoinListener::Network::on_request(const std::string& id, std::string key, std::string address,
                                       join::Request request) {
  using join::RefusalKind;
  if (request.version_max < join::version_min || request.version_min > join::version_max) {
    return refuse(id, now_ns_, {RefusalKind::unsupported_version,
                                "this cluster joins by protocol versions " + std::to_string(join::version_min) + " to " +
                                    std::to_string(join::version_max) + "; use a program of its version"});
  }
  if (pending_.size() >= options_.limits.in_progress_max) {
    return refuse(id, now_ns_, {RefusalKind::busy, "too many are joining; try again in a while"});
  }
  const std::uint64_t ticket = next_ticket_++;
  pending_[ticket] = {id, request.name.substr(0, 64), std::move(address), now_ns_};
  on_join_({std::move(request), std::move(key)}, [answers = answers_, ticket](join::Answer answer) {
    answers->push({ticket, std::move(answer)});
  });
}

bool JoinListener::Network::too_often(const std::string& address) {
  auto at = addresses_.find(address);
  if (at == addresses_.end()) {
    if (addresses_.size() >= options_.limits.addresses_max) {
      std::erase_if(addresses_, [this](const auto& one) { return one.second.full(now_ns_); });
    }
    if (addresses_.size() >= options_.limits.addresses_max) return true;
    at = addresses_.emplace(address, RateBucket(options_.limits.requests_per_s_of_address)).first;
  }
  return !at->second.take(now_ns_) || !requests_.take(now_ns_);
}

void JoinListener::Network::take_answers() {
  answers_->take(answered_);
  for (Answered& answered : answered_) {
    const auto found = pending_.find(answered.ticket);
    if (found == pending_.end()) continue;
    const Pending request = std::move(found->second);
    pending_.erase(found);
    if (auto* refused = std::get_if<join::Refused>(&answered.answer)) {
      log::warning("join.refused", {{"node", request.node}, {"address", request.address}, {"why", refused->message}});
      refuse(request.id, request.arrived_ns, std::move(*refused));
      continue;
    }
    log::info("join.welcomed", {{"node", request.node}, {"address", request.address}});
    ++welcomed_;
    send(request.id, answered.answer);
  }
  answered_.clear();
}

// A refusal leaves at a multiple of refusal_ms after the request arrived: when it was decided does not show.
void JoinListener::Network::refuse(const std::string& id, std::int64_t arrived_ns, join::Refused refused) {
  ++refused_;
  if (refusals_.size() >= options_.limits.refusals_max) return;
  const std::int64_t unit_ns = std::max<std::int64_t>(ns_of(options_.limits.refusal_ms), 1);
  const std::int64_t units = (now_ns_ - arrived_ns) / unit_ns + 1;
  Refusal refusal{arrived_ns + units * unit_ns, id, std::move(refused)};
  const auto place = std::upper_bound(refusals_.begin(), refusals_.end(), refusal.due_ns,
                                      [](std::int64_t due_ns, const Refusal& other) { return due_ns < other.due_ns; });
  refusals_.insert(place, std::move(refusal));
}

void JoinListener::Network::send_due_refusals() {
  while (!refusals_.empty() && refusals_.front().due_ns <= now_ns_) {
    send(refusals_.front().id, std::move(refusals_.front().refused));
    refusals_.pop_front();
  }
}

void JoinListener::Network::send(const std::string& id, const join::Answer& answer) {
  auto frame = join::encode(answer);
  if (!frame) {
    log::error("join.answer_unfit", {{"reason", frame.error().message}});
    frame = join::encode(join::Answer(join::Refused{join::RefusalKind::internal, "the node cannot answer; see its log"}));
    check(frame.has_value(), "a refusal fits a frame");
  }
  // When the identity is refused the whole message is abandoned: a body sent now would be taken for an identity.
  if (zmq_send(router_.handle(), id.data(), id.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return;
  const auto bytes = (*frame)->bytes();
  (void)zmq_send(router_.handle(), bytes.data(), bytes.size(), ZMQ_DONTWAIT);
}

void JoinListener::Network::watch_connections() {
  zmq::message_t event;
  zmq::message_t address;
  while (monitor_.recv(event, zmq::recv_flags::dontwait)) {
    std::uint16_t kind = 0;
    if (event.size() >= sizeof kind) std::memcpy(&kind, event.data(), sizeof kind);
    if (event.more() && !monitor_.recv(address, zmq::recv_flags::none)) return;
    if (kind == ZMQ_EVENT_ACCEPTED) {
      ++connections_;
    } else if (kind == ZMQ_EVENT_DISCONNECTED) {  // also after a handshake that failed
      ++disconnected_;
      if (connections_ > 0) --connections_;
    } else {
      ++handshakes_failed_;
    }
  }
  if (connections_ > options_.limits.connections_max) drop_all();
}

void JoinListener::Network::tick() {
  next_tick_ns_ = now_ns_ + tick_ns;
  std::erase_if(pending_, [this](const auto& one) {
    return now_ns_ - one.second.arrived_ns > ns_of(options_.limits.answer_ms_max);
  });
}

// ROUTER has no way to end one connection, so all end.
void JoinListener::Network::drop_all() {
  log::warning("join.connections_dropped", {{"connections", connections_.load()}});
  const std::string listen = endpoint_;
  pending_.clear();
  refusals_.clear();
  connections_ = 0;
  ++all_dropped_;
  // Closing is the work of ZeroMQ's own thread: the port may stay taken for a moment.
  for (bool told = false; !stopping_;) {
    close();
    try {
      return bind(listen);
    } catch (const zmq::error_t& error) {
      if (!told && error.num() != EADDRINUSE) log::error("join.cannot_listen", {{"reason", error.what()}});
      told = told || error.num() != EADDRINUSE;
      (void)zmq_poll(nullptr, 0, 10);
    }
  }
}

Result<std::unique_ptr<JoinListener>> JoinListener::start(JoinListenerOptions options, const Clock& clock,
                                                          OnJoin on_join) {
  auto public_key = curve_public_key(options.secret_key);
  if (!public_key) return fail(std::move(public_key.error()));
  if (!options.listen.starts_with("tcp://")) {
    return fail(LinkError::bad_address, "\"" + options.listen + "\" is not an address; write tcp://HOST:PORT");
  }
  const std::string listen = options.listen;
  try {
    auto network = std::make_unique<Network>(std::move(options), std::move(*public_key), clock, std::move(on_join));
    network->bind(listen);
    network->start();
    return std::unique_ptr<JoinListener>(new JoinListener(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::bad_address, "cannot listen on " + listen + ": " + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

JoinListener::JoinListener(std::unique_ptr<Network> network) : network_(std::move(network)) {}
JoinListener::~JoinListener() { network_->stop(); }
const std::string& JoinListener::endpoint() const { return network_->endpoint(); }
const std::string& JoinListener::public_key() const { return network_->public_key(); }
JoinCounters JoinListener::counters() const { return network_->counters(); }

}  // namespace outlast::cluster
