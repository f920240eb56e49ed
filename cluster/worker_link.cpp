#include "cluster/worker_link.hpp"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <zmq.hpp>

#include "cluster/network_thread.hpp"
#include "cluster/wake_queue.hpp"
#include "core/log.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::cluster {
namespace {

constexpr int unsent_frames_max = 256;

struct Answered {
  std::uint64_t ask = 0;
  Result<FramePtr> result;
};

}  // namespace

// Everything but the queue belongs to the network thread.
class WorkerLink::Network {
 public:
  Network(WorkerLinkOptions options, const Clock& clock, Callbacks callbacks)
      : options_(std::move(options)), clock_(clock), callbacks_(std::move(callbacks)), answers_(std::make_shared<WakeQueue<Answered>>()) {}
  ~Network() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    answers_->wake();
    thread_.join();
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Throws zmq::error_t and std::system_error.
  void start() {
    socket_ = zmq::socket_t(context_, zmq::socket_type::dealer);
    socket_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(frame_bytes_max));
    socket_.set(zmq::sockopt::sndhwm, unsent_frames_max);
    socket_.set(zmq::sockopt::rcvhwm, unsent_frames_max);
    socket_.set(zmq::sockopt::reconnect_ivl, 50);
    socket_.set(zmq::sockopt::reconnect_ivl_max, 500);
    socket_.set(zmq::sockopt::linger, 200);  // so that last answers leave
    socket_.connect("ipc://" + options_.socket);
    thread_ = start_without_signals([this] { run(); });
  }

 private:
  void run() {
    heard_ns_ = clock_.monotonic_ns();
    while (!stopping_ && !gone_) {
      now_ns_ = clock_.monotonic_ns();
      receive();
      send_answers();
      if (now_ns_ >= next_beat_ns_) beat();
      if (now_ns_ - heard_ns_ > std::int64_t{options_.silence_ms_max} * 1'000'000) end("it says nothing");
      sleep();
    }
    send_answers();
    answers_->close();
    if (!gone_) send(ask::Workers{2, {}});  // so that the host need not wait for its silence
  }

  void receive() {
    zmq::message_t message;
    while (!gone_ && socket_.recv(message, zmq::recv_flags::dontwait)) {
      heard_ns_ = now_ns_;
      auto decoded = ask::decode({message.data<std::byte>(), message.size()});
      if (!decoded) {
        log::warning("worker_frame_malformed", {{"error", decoded.error().message}});
        continue;
      }
      if (auto* const ask = std::get_if<ask::Ask>(&*decoded)) take(std::move(*ask));
      if (const auto* const down = std::get_if<ask::Down>(&*decoded)) end(down->why);
    }
  }
  void take(ask::Ask ask) {
    callbacks_.on_ask(ask.method, std::move(ask.body), [answers = answers_, id = ask.id](Result<FramePtr> result) {
      answers->push({id, std::move(result)});
    });
  }
  void send_answers() {
    answers_->take(answered_);
    for (Answered& one : answered_) {
      if (one.result) send(ask::Answer{one.ask, std::move(*one.result)});
      else send(ask::Failed{one.ask, std::move(one.result.error()), true});
    }
    answered_.clear();
  }
  void beat() {
    next_beat_ns_ = now_ns_ + worker_beat_ns;
    send(ask::Workers{1, {options_.worker}});
  }
  // What a full queue does not take is lost: the host's deadline tells it so.
  void send(const ask::Message& message) {
    const auto frame = ask::encode(message);
    if (!frame) return log::error("worker_answer_unfit", {{"error", frame.error().message}});
    const auto bytes = (*frame)->bytes();
    if (!socket_.send(zmq::const_buffer(bytes.data(), bytes.size()), zmq::send_flags::dontwait)) log::warning("worker_answer_lost", {});
  }
  void end(const std::string& why) {
    gone_ = true;
    callbacks_.on_gone(why);
  }
  void sleep() {
    if (stopping_ || gone_ || !answers_->may_sleep()) return;
    zmq::pollitem_t items[] = {{socket_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, answers_->descriptor(), ZMQ_POLLIN, 0}};
    const std::int64_t timeout_ms = std::max<std::int64_t>((next_beat_ns_ - now_ns_) / 1'000'000 + 1, 1);
    (void)zmq_poll(items, static_cast<int>(std::size(items)), static_cast<long>(timeout_ms));
    answers_->clear_wake_up();
  }

  const WorkerLinkOptions options_;
  const Clock& clock_;
  const Callbacks callbacks_;
  const std::shared_ptr<WakeQueue<Answered>> answers_;
  zmq::context_t context_;
  zmq::socket_t socket_;
  std::thread thread_;
  std::vector<Answered> answered_;
  std::int64_t now_ns_ = 0;
  std::int64_t heard_ns_ = 0;
  std::int64_t next_beat_ns_ = 0;
  bool gone_ = false;
  std::atomic<bool> stopping_{false};
};

Result<std::unique_ptr<WorkerLink>> WorkerLink::start(WorkerLinkOptions options, const Clock& clock, Callbacks callbacks) {
  if (options.socket.empty() || options.socket.size() > socket_path_bytes_max)
    return fail(LinkError::bad_address, "the path of a worker's socket has 1 to 107 bytes: " + options.socket);
  try {
    auto network = std::make_unique<Network>(std::move(options), clock, std::move(callbacks));
    network->start();
    return std::unique_ptr<WorkerLink>(new WorkerLink(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::bad_address, std::string("cannot connect to the host: ") + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

WorkerLink::WorkerLink(std::unique_ptr<Network> network) : network_(std::move(network)) {}
WorkerLink::~WorkerLink() = default;

}  // namespace outlast::cluster
