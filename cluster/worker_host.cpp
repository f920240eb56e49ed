#include "cluster/worker_host.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

#include <zmq.hpp>

#include "cluster/network_thread.hpp"
#include "cluster/wake_queue.hpp"
#include "cluster/worker_link.hpp"
#include "core/log.hpp"
#include "proto/ask_codec.hpp"

namespace outlast::cluster {
namespace {

constexpr int queued_frames_max = 256;
constexpr std::int64_t tick_ns = 250'000'000;
constexpr std::string_view actor_name = "worker";

struct Asked {
  std::string worker;
  std::uint16_t method = 0;
  FramePtr body;
  std::uint32_t deadline_ms = 0;
  WorkerHost::Answer answer;
};

struct Pending {
  std::string worker;
  std::int64_t due_ns = 0;
  WorkerHost::Answer answer;
};

struct Connected {
  std::string id;  // of its connection
  WorkerDescription description;
  std::int64_t heard_ns = 0;
};

// Whoever may write to the folder could take the socket's place.
Result<void> check_folder(const std::string& socket) {
  if (socket.empty() || socket.size() > socket_path_bytes_max) {
    return fail(LinkError::bad_address, "the path of the workers' socket has " + std::to_string(socket.size()) + " bytes and may have " +
                                            std::to_string(socket_path_bytes_max) + "; choose a shorter folder: " + socket);
  }
  const std::string folder = std::filesystem::path(socket).parent_path().string();
  struct stat status {};
  if (::stat(folder.c_str(), &status) != 0) return fail(LinkError::bad_address, folder + ": " + std::strerror(errno));
  if (status.st_uid != ::geteuid() || (status.st_mode & 077) != 0)
    return fail(LinkError::bad_address, folder + " must be this user's alone, since who may enter it may be a worker; run: chmod 700 " + folder);
  return {};
}

}  // namespace

// Everything but the queue and the list of workers belongs to the network thread.
class WorkerHost::Network {
 public:
  Network(WorkerHostOptions options, const Clock& clock, Callbacks callbacks)
      : options_(std::move(options)), clock_(clock), callbacks_(std::move(callbacks)) {}
  ~Network() {
    if (!thread_.joinable()) return;
    stopping_ = true;
    asks_.wake();
    thread_.join();
  }
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Throws zmq::error_t and std::system_error.
  void start() {
    router_ = zmq::socket_t(context_, zmq::socket_type::router);
    router_.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(frame_bytes_max));
    router_.set(zmq::sockopt::sndhwm, queued_frames_max);
    router_.set(zmq::sockopt::rcvhwm, queued_frames_max);
    router_.set(zmq::sockopt::router_mandatory, true);
    router_.set(zmq::sockopt::linger, 0);
    router_.bind("ipc://" + options_.socket);
    thread_ = start_without_signals([this] { run(); });
  }
  void ask(Asked asked) {
    if (++in_flight_ > options_.asks_max) {
      --in_flight_;
      return asked.answer(fail(LinkError::overloaded, "too many asks of workers wait for an answer; try again in a while"));
    }
    const Answer answer = asked.answer;
    if (asks_.push(std::move(asked))) return;
    --in_flight_;
    answer(fail(LinkError::not_connected, "the node is stopping"));
  }
  [[nodiscard]] std::vector<WorkerDescription> workers() const {
    const std::lock_guard lock(mutex_);
    return known_;
  }

 private:
  void run() {
    while (!stopping_) {
      now_ns_ = clock_.monotonic_ns();
      receive();
      send_asks();
      if (now_ns_ >= next_tick_ns_) tick();
      sleep();
    }
    for (Asked& asked : asks_.close()) asked.answer(fail(LinkError::not_connected, "the host has stopped"));
    for (auto& [id, pending] : std::exchange(pending_, {})) pending.answer(fail(LinkError::not_connected, "the host has stopped"));
  }

  void receive() {
    zmq::message_t id;
    zmq::message_t body;
    while (router_.recv(id, zmq::recv_flags::dontwait)) {
      bool more = id.more();
      int parts = 0;
      for (; more; ++parts) {
        if (!router_.recv(body, zmq::recv_flags::none)) break;
        more = body.more();
      }
      if (parts == 1) on_frame(id.to_string(), {body.data<std::byte>(), body.size()});
    }
  }
  void on_frame(const std::string& id, std::span<const std::byte> bytes) {
    auto decoded = ask::decode(bytes);
    if (!decoded) return log::warning("worker_frame_malformed", {{"error", decoded.error().message}});
    if (auto* const announced = std::get_if<ask::Workers>(&*decoded)) on_beat(id, std::move(*announced));
    if (auto* const answer = std::get_if<ask::Answer>(&*decoded)) settle(answer->id, std::move(answer->body));
    if (auto* const failed = std::get_if<ask::Failed>(&*decoded)) settle(failed->id, fail(std::move(failed->error)));
  }
  void on_beat(const std::string& id, ask::Workers announced) {
    if (announced.workers.empty()) return on_goodbye(id);
    if (announced.workers.size() != 1) return;
    WorkerDescription& worker = announced.workers.front();
    const auto at = workers_.find(worker.name);
    if (at != workers_.end() && at->second.id != id) {
      // The same process on a new connection is told from a second one by who is silent.
      if (now_ns_ - at->second.heard_ns < 2 * worker_beat_ns)
        return send(id, ask::Down{std::string(actor_name), "there is a worker '" + worker.name + "' already; give it another --name"});
      lose(worker.name, "it connected anew");
    }
    const bool is_new = !workers_.contains(worker.name);
    if (is_new && workers_.size() >= ask::workers_max) return send(id, ask::Down{std::string(actor_name), "the host has as many workers as it may have"});
    workers_[worker.name] = {id, worker, now_ns_};
    if (is_new) {
      publish();
      if (callbacks_.on_up) callbacks_.on_up(worker);
    }
    send(id, ask::Workers{});
  }
  void on_goodbye(const std::string& id) {
    const auto at = std::find_if(workers_.begin(), workers_.end(), [&id](const auto& one) { return one.second.id == id; });
    if (at != workers_.end()) lose(std::string(at->first), "it has ended");
  }
  void settle(std::uint64_t ask, Result<FramePtr> result) {
    const auto at = pending_.find(ask);
    if (at == pending_.end()) return;
    const Answer answer = std::move(at->second.answer);
    pending_.erase(at);
    --in_flight_;
    answer(std::move(result));
  }
  void send_asks() {
    asks_.take(taken_);
    for (Asked& asked : taken_) {
      const std::uint64_t number = next_ask_++;
      pending_[number] = {asked.worker, now_ns_ + std::int64_t{asked.deadline_ms} * 1'000'000, std::move(asked.answer)};
      const auto worker = workers_.find(asked.worker);
      if (worker == workers_.end()) {
        settle(number, fail(LinkError::not_connected, "there is no worker '" + asked.worker + "' here"));
        continue;
      }
      const auto frame = ask::encode(ask::Ask{number, std::string(actor_name), asked.method, asked.deadline_ms, std::move(asked.body)});
      if (!frame) settle(number, fail(frame.error()));
      else if (!send_frame(worker->second.id, **frame)) settle(number, fail(LinkError::overloaded, "worker '" + asked.worker + "' takes no more at the moment"));
    }
    taken_.clear();
  }
  void send(const std::string& id, const ask::Message& message) {
    if (const auto frame = ask::encode(message)) (void)send_frame(id, **frame);
  }
  bool send_frame(const std::string& id, const Frame& frame) {
    // When the identity is refused the whole message is abandoned: a body sent now would be taken for an identity.
    if (zmq_send(router_.handle(), id.data(), id.size(), ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) return false;
    return zmq_send(router_.handle(), frame.bytes().data(), frame.size(), ZMQ_DONTWAIT) >= 0;
  }
  void tick() {
    next_tick_ns_ = now_ns_ + tick_ns;
    std::vector<std::string> silent;
    for (const auto& [name, worker] : workers_) {
      if (now_ns_ - worker.heard_ns > std::int64_t{options_.silence_ms_max} * 1'000'000) silent.push_back(name);
    }
    for (const std::string& name : silent) lose(name, "it says nothing");
    std::vector<std::uint64_t> late;
    for (const auto& [number, pending] : pending_) {
      if (now_ns_ > pending.due_ns) late.push_back(number);
    }
    for (const std::uint64_t number : late) settle(number, fail(LinkError::timed_out, "the worker did not answer in time"));
  }
  void lose(const std::string& name, const std::string& why) {
    workers_.erase(name);
    publish();
    std::vector<std::uint64_t> lost;
    for (const auto& [number, pending] : pending_) {
      if (pending.worker == name) lost.push_back(number);
    }
    for (const std::uint64_t number : lost) settle(number, fail(LinkError::not_connected, "worker '" + name + "' is gone: " + why));
    if (callbacks_.on_down) callbacks_.on_down(name, why);
  }
  void publish() {
    std::vector<WorkerDescription> known;
    for (const auto& [name, worker] : workers_) known.push_back(worker.description);
    const std::lock_guard lock(mutex_);
    known_ = std::move(known);
  }
  void sleep() {
    if (stopping_ || !asks_.may_sleep()) return;
    zmq::pollitem_t items[] = {{router_.handle(), 0, ZMQ_POLLIN, 0}, {nullptr, asks_.descriptor(), ZMQ_POLLIN, 0}};
    const std::int64_t timeout_ms = std::max<std::int64_t>((next_tick_ns_ - now_ns_) / 1'000'000 + 1, 1);
    (void)zmq_poll(items, static_cast<int>(std::size(items)), static_cast<long>(timeout_ms));
    asks_.clear_wake_up();
  }

  const WorkerHostOptions options_;
  const Clock& clock_;
  const Callbacks callbacks_;
  WakeQueue<Asked> asks_;
  zmq::context_t context_;
  zmq::socket_t router_;
  std::thread thread_;
  std::vector<Asked> taken_;
  std::map<std::string, Connected> workers_;
  std::unordered_map<std::uint64_t, Pending> pending_;
  std::uint64_t next_ask_ = 1;
  std::int64_t now_ns_ = 0;
  std::int64_t next_tick_ns_ = 0;
  std::atomic<std::size_t> in_flight_{0};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<WorkerDescription> known_;
};

Result<std::unique_ptr<WorkerHost>> WorkerHost::start(WorkerHostOptions options, const Clock& clock, Callbacks callbacks) {
  if (const auto good = check_folder(options.socket); !good) return fail(good.error());
  const std::string socket = options.socket;
  try {
    auto network = std::make_unique<Network>(std::move(options), clock, std::move(callbacks));
    network->start();
    return std::unique_ptr<WorkerHost>(new WorkerHost(std::move(network)));
  } catch (const zmq::error_t& error) {
    return fail(LinkError::bad_address, "cannot listen on " + socket + ": " + error.what());
  } catch (const std::system_error& error) {
    return fail(LinkError::system, std::string("cannot start the network thread: ") + error.what());
  }
}

WorkerHost::WorkerHost(std::unique_ptr<Network> network) : network_(std::move(network)) {}
WorkerHost::~WorkerHost() = default;

void WorkerHost::ask(const std::string& worker, std::uint16_t method, FramePtr body, std::uint32_t deadline_ms, Answer answer) {
  network_->ask({worker, method, std::move(body), deadline_ms, std::move(answer)});
}

std::vector<WorkerDescription> WorkerHost::workers() const { return network_->workers(); }

}  // namespace outlast::cluster
