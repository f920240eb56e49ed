#include "cluster/node_links.hpp"

#include <algorithm>
#include <atomic>
#include <map>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include <zmq.hpp>

#include "cluster/client_session.hpp"
#include "cluster/curve.hpp"
#include "cluster/link_socket.hpp"
#include "cluster/network_thread.hpp"
#include "cluster/wake_queue.hpp"
#include "core/clock.hpp"
#include "core/random.hpp"

namespace outlast::cluster {
namespace {

constexpr int answers_per_turn = 256;    // per endpoint; then the others get their turn
constexpr int cancels_linger_ms = 100;    // for the cancels of a client that stops
constexpr std::int64_t sleep_ms_max = 60'000;

struct Submit {
  std::uint64_t request;
  chat::Request chat;
  std::uint32_t timeout_ms;
};
struct Consumed {
  std::uint64_t request;
  link::Credit cost;
};
struct CancelRequest {
  std::uint64_t request;
};
using Command = std::variant<Submit, Consumed, CancelRequest>;

Result<void> check_options(const LinksOptions& options) {
  const auto refuse = [](std::string message) { return fail(LinkError::bad_options, std::move(message)); };
  if (options.endpoints.empty()) return refuse("a client needs at least one endpoint, tcp://HOST:PORT");
  if (options.endpoints.size() > endpoints_max) {
    return refuse("a client takes at most " + std::to_string(endpoints_max) + " endpoints");
  }
  for (const Endpoint& endpoint : options.endpoints) {
    if (!endpoint.address.starts_with("tcp://")) {
      return fail(LinkError::bad_address, "\"" + endpoint.address + "\" is not an endpoint; write tcp://HOST:PORT");
    }
    if (!is_curve_key(endpoint.server_key)) {
      return fail(LinkError::bad_key, "the server key of " + endpoint.address +
                                          " is not a CURVE key; it stands in the node's DATA/zmq.key.pub");
    }
  }
  if (options.virtual_key.empty() || options.virtual_key.size() > link::name_bytes_max) {
    return refuse("a client needs a virtual key, as `outlast key create` prints it");
  }
  if (options.in_flight_max == 0) return refuse("in_flight_max must be at least 1");
  return {};
}

SessionOptions session_options(const LinksOptions& options) {
  SessionOptions session;
  session.endpoints = options.endpoints;
  session.virtual_key = options.virtual_key;
  session.client_name = options.client_name;
  session.in_flight_max = options.in_flight_max;
  session.unreachable_ms_max = options.unreachable_ms_max;
  session.request_ms_max = options.request_ms_max;
  session.times = options.times;
  const SystemClock clock;
  session.incarnation = UuidGenerator(clock, secure_seed()).next();
  return session;
}

}  // namespace

// All but the queue and the flag belongs to the network thread.
class NodeLinks::Network {
 public:
  Network(LinksOptions options, ChatReceiver receiver)
      : receiver_(std::move(receiver)),
        own_keys_(make_curve_keys()),
        session_(session_options(options), clock_, secure_seed()) {}

  static void start(const std::shared_ptr<Network>& network) {
    network->thread_ = start_without_signals([network] { network->run(); });
  }
  void stop() {
    stopping_ = true;
    commands_.wake();
    if (thread_.get_id() == std::this_thread::get_id()) {
      muted_ = true;
      thread_.detach();
    } else {
      thread_.join();
    }
  }
  // After stop() nothing runs any more, so nothing is left to say about a request.
  void push(Command command) { commands_.push(std::move(command)); }

 private:
  void run();
  void sleep();
  void take_commands();
  void listen_to(std::size_t endpoint);
  void perform();
  void perform(Effect& effect);
  void open(const Connect& connect);
  void send(const SendFrame& send);

  const ChatReceiver receiver_;
  const CurveKeys own_keys_;  // only for the encryption; the virtual key says who this is
  const SystemClock clock_;
  WakeQueue<Command> commands_;
  std::atomic<bool> stopping_{false};
  std::vector<Command> taken_;
  ClientSession session_;
  zmq::context_t context_;
  std::map<std::size_t, std::unique_ptr<LinkSocket>> sockets_;  // by link; no null
  std::vector<std::size_t> links_;  // of one turn
  bool received_all_ = true;
  bool muted_ = false;  // the receiver is being destroyed by this thread
  std::thread thread_;
};

void NodeLinks::Network::run() {
  while (!stopping_) {
    take_commands();
    session_.tick();
    perform();
    received_all_ = true;
    // What is heard may open and close sockets.
    links_.clear();
    for (const auto& [link, socket] : sockets_) links_.push_back(link);
    for (const std::size_t link : links_) {
      listen_to(link);
      perform();
    }
    sleep();
  }
  for (Command& command : commands_.close()) taken_.push_back(std::move(command));
  for (const auto& [link, socket] : sockets_) socket->linger(cancels_linger_ms);
  session_.shut_down();
  for (Command& command : taken_) {
    if (auto* submit = std::get_if<Submit>(&command)) {
      session_.submit(submit->request, std::move(submit->chat), submit->timeout_ms);
    }
  }
  perform();
}

void NodeLinks::Network::sleep() {
  if (!received_all_ || stopping_ || !commands_.may_sleep()) return;
  std::vector<zmq::pollitem_t> items;
  items.reserve(2 * sockets_.size() + 1);
  items.push_back({nullptr, commands_.descriptor(), ZMQ_POLLIN, 0});
  for (const auto& [link, socket] : sockets_) {
    items.push_back(socket->poll_socket());
    items.push_back(socket->poll_monitor());
  }
  const std::int64_t wait_ms = (session_.next_wake_ns() - clock_.monotonic_ns()) / 1'000'000 + 1;
  (void)zmq_poll(items.data(), static_cast<int>(items.size()),
                 static_cast<long>(std::clamp<std::int64_t>(wait_ms, 0, sleep_ms_max)));
  commands_.clear_wake_up();
}

void NodeLinks::Network::take_commands() {
  commands_.take(taken_);
  for (Command& command : taken_) {
    if (auto* submit = std::get_if<Submit>(&command)) {
      session_.submit(submit->request, std::move(submit->chat), submit->timeout_ms);
    } else if (const auto* consumed = std::get_if<Consumed>(&command)) {
      session_.consumed(consumed->request, consumed->cost);
    } else if (const auto* cancel = std::get_if<CancelRequest>(&command)) {
      session_.cancel(cancel->request);
    }
  }
  taken_.clear();
}

void NodeLinks::Network::listen_to(std::size_t endpoint) {
  const auto found = sockets_.find(endpoint);
  if (found == sockets_.end()) return;
  LinkSocket* socket = found->second.get();
  const std::uint64_t connection = socket->connection();
  // Frames first: what a node said before it closed still counts.
  zmq::message_t body;
  int received = 0;
  while (received < answers_per_turn && socket->receive(body)) {
    ++received;
    if (body.more()) continue;
    session_.received(endpoint, connection,
                      link::decode_from_node({static_cast<const std::byte*>(body.data()), body.size()}), body.size());
  }
  if (received == answers_per_turn) {
    received_all_ = false;
    return;
  }
  while (auto happening = socket->next_happening()) {
    if (happening->up) {
      session_.connected(endpoint, connection);
    } else {
      session_.disconnected(endpoint, connection, std::move(happening->reason));
    }
  }
}

void NodeLinks::Network::perform() {
  // Performing one effect may call for others.
  for (auto effects = session_.take_effects(); !effects.empty(); effects = session_.take_effects()) {
    for (Effect& effect : effects) perform(effect);
  }
}

void NodeLinks::Network::perform(Effect& effect) {
  if (const auto* connect = std::get_if<Connect>(&effect)) return open(*connect);
  if (const auto* disconnect = std::get_if<Disconnect>(&effect)) {
    sockets_.erase(disconnect->endpoint);
    return;
  }
  if (const auto* frame = std::get_if<SendFrame>(&effect)) return send(*frame);
  if (muted_) return;
  if (auto* deliver = std::get_if<Deliver>(&effect)) {
    return receiver_.on_events(deliver->request, std::move(deliver->events), deliver->cost);
  }
  auto& ended = std::get<Ended>(effect);
  receiver_.on_end(ended.request, std::move(ended.outcome));
}

void NodeLinks::Network::open(const Connect& connect) {
  const Endpoint& endpoint = connect.target;
  try {
    auto socket = std::make_unique<LinkSocket>(context_, connect.connection, endpoint.address, endpoint.server_key,
                                               own_keys_);
    sockets_[connect.endpoint] = std::move(socket);
  } catch (const zmq::error_t& error) {
    session_.disconnected(connect.endpoint, connect.connection,
                          "cannot connect to " + endpoint.address + ": " + error.what());
  }
}

void NodeLinks::Network::send(const SendFrame& send) {
  const auto found = sockets_.find(send.endpoint);
  if (found == sockets_.end() || found->second->send(*send.frame)) return;
  // Closed at once, so that frames behind this one do not leave by it: their requests are on their way elsewhere.
  const std::uint64_t connection = found->second->connection();
  sockets_.erase(found);
  session_.disconnected(send.endpoint, connection, "the node takes no more frames");
}

Result<std::unique_ptr<NodeLinks>> NodeLinks::start(LinksOptions options, ChatReceiver receiver) {
  if (auto valid = check_options(options); !valid) return fail(std::move(valid.error()));
  try {
    auto network = std::make_shared<Network>(std::move(options), std::move(receiver));
    Network::start(network);
    return std::unique_ptr<NodeLinks>(new NodeLinks(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::system, std::string("cannot make sockets: ") + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

NodeLinks::NodeLinks(std::shared_ptr<Network> network) : network_(std::move(network)) {}
NodeLinks::~NodeLinks() { network_->stop(); }
void NodeLinks::submit(std::uint64_t request, chat::Request chat, std::uint32_t timeout_ms) {
  network_->push(Submit{request, std::move(chat), timeout_ms});
}
void NodeLinks::consumed(std::uint64_t request, link::Credit cost) { network_->push(Consumed{request, cost}); }
void NodeLinks::cancel(std::uint64_t request) { network_->push(CancelRequest{request}); }

}  // namespace outlast::cluster
