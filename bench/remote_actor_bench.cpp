// An actor asks an actor of another node: round trips with one in flight, and messages per second with many.
//   outlast-remote-actor-bench [--links] [SECONDS [IN_FLIGHT]]
// Two CAF systems in one process, joined by queues in memory or, with --links, by PeerLinks over TCP with CURVE.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/event_based_actor.hpp>
#include <caf/exit_reason.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "actors/control_channel.hpp"
#include "actors/remote_interfaces.hpp"
#include "core/check.hpp"
#include "core/clock.hpp"
#include "cluster/curve.hpp"

using namespace outlast;
using namespace outlast::actors;
using Steady = std::chrono::steady_clock;

namespace {

constexpr std::size_t body_bytes = 64;
constexpr std::size_t window = 512;

struct Config : caf::actor_system_config {
  Config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", 2);
  }
};

// A thread that does what it is handed, in order.
class Worker {
 public:
  Worker() : thread_([this] { run(); }) {}
  ~Worker() {
    push({});
    thread_.join();
  }
  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (tasks_.size() == 1) changed_.notify_one();
  }

 private:
  void run() {
    std::vector<std::function<void()>> tasks;
    while (true) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !tasks_.empty(); });
        tasks.swap(tasks_);
      }
      for (const auto& task : tasks) {
        if (!task) return;
        task();
      }
      tasks.clear();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::function<void()>> tasks_;
  std::thread thread_;
};

struct Side {
  struct Port final : PeerPort {
    Result<void> send(const std::string& node, cluster::Channel channel, FramePtr frame) override {
      return sender(node, channel, std::move(frame));
    }
    std::function<Result<void>(const std::string&, cluster::Channel, FramePtr)> sender;
  };

  explicit Side(std::string its_name) : peer{std::move(its_name), {}, 1}, workers(peer.node, remote, port) {
    peer.incarnation.bytes[0] = static_cast<std::uint8_t>(peer.node[0]);
  }

  cluster::Peer peer;
  Config config;
  caf::actor_system system{config};
  SystemClock clock;
  Port port;
  RemoteActors remote{system, port, clock};
  WorkerRegistry workers;
  ControlChannel channel{remote, workers};
};

FramePtr body_of(std::size_t size) {
  auto frame = std::make_shared<Frame>(size);
  std::memset(frame->writable().data(), 'x', size);
  return frame;
}

GpuWorker::behavior_type echo() {
  return {
      [](describe_atom) -> WorkerDescription { return {"echo", "none", 0, {}}; },
      [](const WorkerCall& call) -> WorkerReply { return WorkerResult{call.body}; },
  };
}

struct Run {
  Steady::time_point until;
  FramePtr body = body_of(body_bytes);
  std::vector<std::int64_t> round_trips_ns;  // of the asker alone
  std::atomic<std::size_t> running{0};
  std::mutex mutex;
  std::condition_variable ended;
};

void ask_next(caf::event_based_actor* self, const GpuWorker& worker, Run& run) {
  const auto since = Steady::now();
  self->request(worker, caf::infinite, WorkerCall{1, run.body})
      .then(
          [self, worker, &run, since](const WorkerReply&) {
            const auto now = Steady::now();
            run.round_trips_ns.push_back((now - since).count());
            if (now < run.until) return ask_next(self, worker, run);
            const std::lock_guard lock(run.mutex);
            --run.running;
            run.ended.notify_all();
          },
          [](const caf::error& error) { check(false, "every request is answered", error_of(error).message); });
}

void measure(Side& asker, const char* what, std::size_t in_flight, int seconds) {
  auto found = asker.workers.worker("echo");
  check(found.has_value(), "the worker is known");
  Run run;
  run.round_trips_ns.reserve(4'000'000);
  run.running = in_flight;
  const auto start = Steady::now();
  run.until = start + std::chrono::seconds(seconds);
  asker.system.spawn([worker = *found, &run, in_flight](caf::event_based_actor* self) {
    for (std::size_t i = 0; i < in_flight; ++i) ask_next(self, worker, run);
  });
  std::unique_lock lock(run.mutex);
  run.ended.wait(lock, [&run] { return run.running == 0; });
  const double took_s = std::chrono::duration<double>(Steady::now() - start).count();
  auto& times = run.round_trips_ns;
  std::sort(times.begin(), times.end());
  std::printf("%-16s %4zu in flight: round trip p50 %7.1f us, p99 %8.1f us; %9.0f messages/s\n", what, in_flight,
              static_cast<double>(times[times.size() / 2]) / 1e3, static_cast<double>(times[times.size() * 99 / 100]) / 1e3,
              2.0 * static_cast<double>(times.size()) / took_s);
}

std::size_t only_in_flight = 0;  // 0: some of each

void measure_all(Side& asker, const char* what, int seconds) {
  if (only_in_flight != 0) return measure(asker, what, only_in_flight, seconds);
  for (const std::size_t in_flight : {std::size_t{1}, std::size_t{64}, window}) measure(asker, what, in_flight, seconds);
}

void in_memory(Side& a, Side& b, int seconds) {
  Worker to_a;
  Worker to_b;
  const auto join = [](Side& from, Side& to, Worker& thread) {
    from.port.sender = [&from, &to, &thread](const std::string&, cluster::Channel, FramePtr frame) -> Result<void> {
      thread.push([&from, &to, frame = std::move(frame)] { (void)to.channel.on_frame(from.peer, frame); });
      return {};
    };
  };
  join(a, b, to_b);
  join(b, a, to_a);
  a.channel.on_up(b.peer);
  b.channel.on_up(a.peer);
  while (a.workers.workers().empty()) std::this_thread::yield();
  measure_all(a, "in memory", seconds);
  a.channel.on_down(b.peer, "the end");
  b.channel.on_down(a.peer, "the end");
}

std::unique_ptr<cluster::PeerLinks> start_links(Side& side, const cluster::CurveKeys& keys) {
  cluster::PeerLinkOptions options;
  options.listen = "tcp://127.0.0.1:0";
  options.secret_key = keys.secret_key;
  options.cluster = "bench";
  options.node = side.peer.node;
  options.incarnation = side.peer.incarnation;
  auto started = cluster::PeerLinks::start(
      options, side.clock,
      {[&side](const cluster::Peer& peer) { side.channel.on_up(peer); },
       [&side](const cluster::Peer& peer, const std::string& why) { side.channel.on_down(peer, why); },
       [&side](const cluster::Peer& peer, cluster::Channel, const FramePtr& frame) {
         (void)side.channel.on_frame(peer, frame);
       }});
  check(started.has_value(), "the links start", started ? "" : started.error().message);
  cluster::PeerLinks* links = started->get();
  side.port.sender = [links](const std::string& node, cluster::Channel channel, FramePtr frame) {
    return links->send(node, channel, std::move(frame));
  };
  return std::move(*started);
}

void over_links(Side& a, Side& b, int seconds) {
  const auto keys_a = cluster::make_curve_keys();
  const auto keys_b = cluster::make_curve_keys();
  const auto links_a = start_links(a, keys_a);
  const auto links_b = start_links(b, keys_b);
  links_a->set_peers({{"b", keys_b.public_key, links_b->endpoint()}});
  links_b->set_peers({{"a", keys_a.public_key, links_a->endpoint()}});
  const auto give_up = Steady::now() + std::chrono::seconds(10);
  while (a.workers.workers().empty()) {
    check(Steady::now() < give_up, "the nodes find each other");
    a.channel.tick();
    b.channel.tick();
    std::this_thread::yield();
  }
  measure_all(a, "links with CURVE", seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const bool links = argc > 1 && std::string(argv[1]) == "--links";
  const int seconds = argc > (links ? 2 : 1) ? std::max(1, std::atoi(argv[links ? 2 : 1])) : 5;
  const int last = links ? 3 : 2;
  if (argc > last) only_in_flight = static_cast<std::size_t>(std::max(1, std::atoi(argv[last])));
  Side a("a");
  Side b("b");
  const auto worker = b.system.spawn(echo);
  check(b.workers.add({"echo", "none", 0, {}}, worker).has_value(), "the worker registers");
  if (!links) {
    in_memory(a, b, seconds);
  } else {
    over_links(a, b, seconds);
  }
  b.workers.remove("echo");
  caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
}
