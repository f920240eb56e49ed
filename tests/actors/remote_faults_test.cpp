// Remote actors under faults: seeded schedules in one thread, and real threads.
#include <catch2/catch.hpp>

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "actors/remote_actor.hpp"
#include "tests/actors/memory_net.hpp"
#include "tests/actors/remote_fakes.hpp"
#include "tests/cluster/fake_node.hpp"

namespace remote_faults_test {

using namespace outlast;
using namespace outlast::actors;
using namespace std::chrono_literals;
using outlast::test::Slot;
using testing::Asked;
using testing::fake_worker;
using testing::frame_of;
using testing::Held;
using testing::MemoryNet;
using testing::text_of;

namespace {

// Three nodes that ask each other's workers while links delay and fill, nodes go and come back, and workers die. Every
// request ends once; an answer is that of its own request.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed), net_(seed) {
    for (const char* name : {"a", "b", "c"}) nodes_.push_back(&net_.add(name, limits()));
    for (auto* node : nodes_) start_worker(*node);
    for (auto* one : nodes_) {
      for (auto* other : nodes_) {
        if (one != other) net_.connect(*one, *other);
      }
    }
  }
  ~World() { release(); }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
    release();
    net_.delay_ms_max = 0;
    for (auto& [ends, link] : net_.links) link.frames_max = 10'000;
    net_.advance_ms(60'000);
    net_.advance_ms(60'000);
    for (const Sent& sent : sent_) {
      check(sent.asked->times == 1, "every request ends once", std::to_string(sent.asked->times));
      if (!sent.asked->answer) {
        ++errors[sent.asked->error->code];
        continue;
      }
      const std::string expected = sent.method == 0 ? "released" : std::to_string(sent.method) + ":" + sent.text;
      check(sent.asked->answer->has_value() && text_of((*sent.asked->answer)->body) == expected, "the answer is its own");
      ++answers;
    }
    for (const auto* node : nodes_) {
      const RemoteCounters counters = node->remote->counters();
      check(counters.asks_in_flight == 0 && counters.serves_in_flight == 0, "nothing is left");
      check(counters.malformed == 0, "honest nodes understand each other");
    }
  }
  int answers = 0;
  std::map<int, int> errors;  // by code

 private:
  struct Sent {
    std::shared_ptr<Asked<WorkerReply>> asked;
    std::uint16_t method = 0;
    std::string text;
  };
  static RemoteLimits limits() {
    RemoteLimits limits;
    limits.asks_per_node_max = 12;
    limits.serves_per_node_max = 10;
    return limits;
  }
  void start_worker(MemoryNet::Node& node) {
    const auto worker = node.adopt(node.system().spawn(fake_worker, held_));
    workers_[&node] = worker;
    check(node.remote->serve<GpuWorker>("worker", worker).has_value(), "the worker is served");
  }
  void release() {
    held_->release();
    net_.pump();
  }

  void step() {
    MemoryNet::Node& one = *nodes_[random_.below(3)];
    MemoryNet::Node& other = *nodes_[random_.below(3)];
    if (&one == &other) return;
    switch (random_.below(40)) {
      case 0: net_.disconnect(one, other); break;
      case 1:
      case 2:
      case 11:
      case 12:
      case 13: net_.connect(one, other); break;
      case 3:
        if (random_.below(3) != 0) break;
        for (auto* node : nodes_) net_.disconnect(one, *node);
        one.renew();
        break;
      case 4:
        if (random_.below(4) != 0) break;
        held_->release();
        one.kill(workers_[&one]);
        start_worker(one);
        break;
      case 5: release(); break;
      case 6: net_.delay_ms_max = random_.below(3) * 40; break;
      case 7:
        for (auto& [ends, link] : net_.links) link.frames_max = random_.below(3) == 0 ? 4 : 10'000;
        break;
      case 8:
      case 9:
      case 10: net_.advance_ms(static_cast<std::int64_t>(random_.below(60))); break;
      default: ask(one, other);
    }
    if (random_.below(3) == 0) net_.pump();
  }
  void ask(MemoryNet::Node& one, const MemoryNet::Node& other) {
    // An old proxy now and then, of a node or a worker that may be long gone.
    GpuWorker& proxy = proxies_[{one.name, other.name}];
    if (!proxy || random_.below(3) == 0) {
      auto fresh = one.remote->proxy<GpuWorker>(other.name, "worker", 400ms);
      if (!fresh) return;
      proxy = *fresh;
    }
    Sent sent;
    sent.method = random_.below(3) == 0 ? 0 : static_cast<std::uint16_t>(2 + random_.below(100));
    sent.text = std::to_string(sent_.size());
    sent.asked = one.request<WorkerReply>(proxy, WorkerCall{sent.method, frame_of(sent.text)});
    sent_.push_back(std::move(sent));
  }

  Random random_;
  std::shared_ptr<Held> held_ = std::make_shared<Held>();
  MemoryNet net_;
  std::vector<MemoryNet::Node*> nodes_;
  std::map<MemoryNet::Node*, GpuWorker> workers_;
  std::map<std::pair<std::string, std::string>, GpuWorker> proxies_;
  std::vector<Sent> sent_;
};

}  // namespace

TEST_CASE("every request to a remote actor ends once under any schedule of faults", "[remote]") {
  int answers = 0;
  std::map<int, int> errors;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    World world(seed);
    world.run(1'000);
    answers += world.answers;
    for (const auto& [code, count] : world.errors) errors[code] += count;
  }
  CAPTURE(answers, errors[1], errors[2], errors[5]);
  // The schedule reaches every kind of end often, or it proves nothing.
  CHECK(answers > 10'000);
  for (const auto code : {ActorError::unavailable, ActorError::timed_out, ActorError::overloaded}) {
    CHECK(errors[static_cast<int>(code)] > 200);
  }
}

namespace {

struct ThreadedConfig : caf::actor_system_config {
  ThreadedConfig() { set("scheduler.policy", caf::atom("sharing")); }
};

// Two nodes with threads of their own, and a network thread between them.
class ThreadedPair {
 public:
  struct Side {
    explicit Side(ThreadedPair& pair, std::string name)
        : peer{std::move(name), {}, 1}, port(pair, *this), remote(std::make_unique<RemoteActors>(system, port, clock)) {}
    struct Port final : PeerPort {
      Port(ThreadedPair& its_pair, Side& its_side) : pair(its_pair), side(its_side) {}
      Result<void> send(const std::string&, cluster::Channel, FramePtr frame) override { return pair.send(side, frame); }
      ThreadedPair& pair;
      Side& side;
    };
    cluster::Peer peer;
    ThreadedConfig config;
    caf::actor_system system{config};
    SystemClock clock;
    Port port;
    std::unique_ptr<RemoteActors> remote;
  };

  ThreadedPair() : a(*this, "a"), b(*this, "b"), thread_([this] { run(); }) {}
  ~ThreadedPair() {
    push({});
    thread_.join();
  }
  void set_up(bool up) {
    const std::lock_guard lock(mutex_);
    if (std::exchange(up_, up) == up) return;
    tasks_.push_back([this, up] {
      for (auto [one, other] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        if (up) one->remote->on_up(other->peer);
        else one->remote->on_down(other->peer, "by the test");
      }
    });
    changed_.notify_all();
  }
  void push(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    changed_.notify_all();
  }

  Side a;
  Side b;

 private:
  Result<void> send(Side& from, FramePtr frame) {
    const std::lock_guard lock(mutex_);
    if (!up_) return fail(cluster::LinkError::not_connected, "down");
    Side& to = &from == &a ? b : a;
    tasks_.push_back([&from, &to, frame = std::move(frame)] {
      auto message = ask::decode(frame->bytes());
      if (to.remote && message) to.remote->on_message(from.peer, std::move(*message));
    });
    changed_.notify_all();
    return {};
  }
  void run() {
    while (true) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return !tasks_.empty(); });
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      if (!task) return;
      task();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  bool up_ = false;
  std::thread thread_;
};

// Of all requests of the test.
struct Tally {
  std::mutex mutex;
  std::condition_variable changed;
  int answers = 0;
  int errors = 0;
  void count(int Tally::*which) {
    const std::lock_guard lock(mutex);
    ++(this->*which);
    changed.notify_all();
  }
  bool wait(int total) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 60s, [this, total] { return answers + errors >= total; });
  }
};

}  // namespace

TEST_CASE("threads that ask while the link comes and goes get one answer each", "[remote]") {
  constexpr int rounds = 40;
  constexpr int askers = 4;
  constexpr int asks = 25;
  Tally tally;
  ThreadedPair pair;
  const auto held = std::make_shared<Held>();
  const auto worker = pair.b.system.spawn(fake_worker, held);
  REQUIRE(pair.b.remote->serve<GpuWorker>("worker", worker));
  int sent = 0;
  for (int round = 0; round < rounds; ++round) {
    pair.set_up(true);
    Slot<bool> up;
    pair.push([&up] { up.set(true); });
    REQUIRE(up.wait());
    const Result<GpuWorker> proxy = pair.a.remote->proxy<GpuWorker>("b", "worker");
    REQUIRE(proxy);
    for (int asker = 0; asker < askers; ++asker) {
      sent += asks;
      pair.a.system.spawn([proxy = *proxy, &tally](caf::event_based_actor* self) {
        for (int i = 0; i < asks; ++i) {
          self->request(proxy, caf::infinite, WorkerCall{7, frame_of("x")})
              .then([&tally](const WorkerReply&) { tally.count(&Tally::answers); },
                    [&tally](const caf::error&) { tally.count(&Tally::errors); });
        }
      });
    }
    // Sometimes in the middle of it, sometimes after all of it.
    if (round % 2 == 0) REQUIRE(tally.wait(sent - askers * asks / 2));
    else REQUIRE(tally.wait(sent));
    pair.set_up(false);
  }
  REQUIRE(tally.wait(sent));
  CHECK(tally.answers + tally.errors == sent);
  CHECK(tally.answers >= sent / 2);  // those of every second round
  caf::anon_send_exit(worker, caf::exit_reason::kill);
  Slot<bool> stopped;
  pair.push([&pair, &stopped] {
    pair.a.remote.reset();
    pair.b.remote.reset();
    stopped.set(true);
  });
  REQUIRE(stopped.wait());
}

}  // namespace remote_faults_test
