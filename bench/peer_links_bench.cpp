// What a link between two nodes costs: round trips one at a time, and small frames one way as fast as they go, in one
// process over loopback with CURVE. The peer in the same run: libzmq's CURVE DEALER and ROUTER without anything of ours.
// outlast-peer-links-bench [seconds per figure]; --json prints one JSON object as the last line.
#include <sys/resource.h>
#include <zmq.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "cluster/curve.hpp"
#include "cluster/peer_links.hpp"
#include "core/clock.hpp"
#include "core/json_writer.hpp"
#include "core/log.hpp"
#include "core/random.hpp"

namespace {

using namespace outlast;
using cluster::Channel;
using Steady = std::chrono::steady_clock;

constexpr std::size_t small_bytes = 64;
constexpr std::size_t bulk_bytes = 64U << 10;

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

double seconds_since(Steady::time_point start) { return std::chrono::duration<double>(Steady::now() - start).count(); }

struct RoundTrips {
  double p50_us = 0;
  double p99_us = 0;
};

// `ask` sends and waits for the answer.
template <class Ask>
RoundTrips measure_round_trips(double seconds, const Ask& ask) {
  for (int i = 0; i < 1'000; ++i) ask();
  std::vector<double> took_us;
  const auto start = Steady::now();
  while (seconds_since(start) < seconds) {
    const auto asked = Steady::now();
    ask();
    took_us.push_back(seconds_since(asked) * 1e6);
  }
  std::ranges::sort(took_us);
  return {took_us[took_us.size() / 2], took_us[took_us.size() * 99 / 100]};
}

// ---- the peer: libzmq alone

class RawPair {
 public:
  RawPair() : router_(context_, zmq::socket_type::router), dealer_(context_, zmq::socket_type::dealer) {
    const auto server = cluster::make_curve_keys();
    const auto client = cluster::make_curve_keys();
    for (zmq::socket_t* socket : {&router_, &dealer_}) {
      socket->set(zmq::sockopt::linger, 0);
      socket->set(zmq::sockopt::sndhwm, 1'000);
      socket->set(zmq::sockopt::rcvhwm, 1'000);
    }
    router_.set(zmq::sockopt::curve_server, true);
    router_.set(zmq::sockopt::curve_secretkey, server.secret_key);
    router_.bind("tcp://127.0.0.1:0");
    dealer_.set(zmq::sockopt::curve_serverkey, server.public_key);
    dealer_.set(zmq::sockopt::curve_publickey, client.public_key);
    dealer_.set(zmq::sockopt::curve_secretkey, client.secret_key);
    dealer_.connect(router_.get(zmq::sockopt::last_endpoint));
  }

  RoundTrips round_trips(double seconds) {
    std::thread echo([this] {
      while (true) {
        zmq::message_t id;
        zmq::message_t body;
        if (!router_.recv(id) || !router_.recv(body)) return;
        const bool last = body.size() == 0;
        (void)router_.send(id, zmq::send_flags::sndmore);
        (void)router_.send(body, zmq::send_flags::none);
        if (last) return;
      }
    });
    const std::string text(small_bytes, 'x');
    const auto ask = [this](const std::string& what) {
      (void)dealer_.send(zmq::buffer(what), zmq::send_flags::none);
      zmq::message_t answer;
      (void)dealer_.recv(answer);
    };
    const RoundTrips result = measure_round_trips(seconds, [&ask, &text] { ask(text); });
    ask("");
    echo.join();
    return result;
  }
  double messages_per_s(double seconds) {
    std::atomic<std::uint64_t> received{0};
    std::thread sink([this, &received] {
      while (true) {
        zmq::message_t id;
        zmq::message_t body;
        if (!router_.recv(id) || !router_.recv(body) || body.size() == 0) return;
        ++received;
      }
    });
    const std::string text(small_bytes, 'x');
    const auto start = Steady::now();
    while (seconds_since(start) < seconds) {
      for (int i = 0; i < 100; ++i) (void)dealer_.send(zmq::buffer(text), zmq::send_flags::none);
    }
    const double rate = static_cast<double>(received) / seconds_since(start);
    (void)dealer_.send(zmq::message_t(), zmq::send_flags::none);
    sink.join();
    return rate;
  }

 private:
  zmq::context_t context_;
  zmq::socket_t router_;
  zmq::socket_t dealer_;
};

// ---- two nodes

class Node {
 public:
  explicit Node(std::string name) : name_(std::move(name)) {}

  void start() {
    cluster::PeerLinkOptions options;
    options.listen = "tcp://127.0.0.1:0";
    options.secret_key = keys_.secret_key;
    options.cluster = "bench";
    options.node = name_;
    options.incarnation = UuidGenerator(clock_, secure_seed()).next();
    cluster::PeerHandlers handlers;
    handlers.on_up = [this](const cluster::Peer&) { up_.release(); };
    handlers.on_down = [this](const cluster::Peer&, const std::string& why) {
      if (!finished_) die("a node went down: " + why);
    };
    handlers.on_frame = [this](const cluster::Peer& peer, Channel channel, FramePtr frame) {
      if (channel == Channel::control && echoes_) {
        if (!links_->send(peer.node, channel, std::move(frame))) die("an echo found no room");
      } else if (channel == Channel::control) {
        answered_.release();
      } else {
        received_bytes.fetch_add(frame->size(), std::memory_order_relaxed);
        received.fetch_add(1, std::memory_order_relaxed);
      }
    };
    auto started = cluster::PeerLinks::start(options, clock_, handlers);
    if (!started) die(started.error().message);
    links_ = std::move(*started);
  }
  void meet(const Node& other) {
    links_->set_peers({{other.name_, other.keys_.public_key, other.links_->endpoint()}});
  }
  void wait_up() { up_.acquire(); }
  void echo() { echoes_ = true; }
  // From now on the other node may go.
  void finish() { finished_ = true; }

  void ask(const std::string& other, const FramePtr& frame) {
    if (!links_->send(other, Channel::control, frame)) die("a question found no room");
    answered_.acquire();
  }
  // Sends until the time is over; gives way while the queue is full.
  void pour(const std::string& other, Channel channel, const FramePtr& frame, double seconds) {
    const auto start = Steady::now();
    while (seconds_since(start) < seconds) {
      for (int i = 0; i < 100; ++i) {
        if (!links_->send(other, channel, frame)) {
          std::this_thread::yield();
          break;
        }
      }
    }
  }

  std::atomic<std::uint64_t> received{0};
  std::atomic<std::uint64_t> received_bytes{0};
  [[nodiscard]] cluster::PeerCounters counters() const { return links_->counters(); }

 private:
  const std::string name_;
  const cluster::CurveKeys keys_ = cluster::make_curve_keys();
  SystemClock clock_;
  std::counting_semaphore<> up_{0};
  std::counting_semaphore<> answered_{0};
  std::atomic<bool> echoes_{false};
  std::atomic<bool> finished_{false};
  std::unique_ptr<cluster::PeerLinks> links_;
};

double rate_of(Node& from, Node& to, const std::string& name, Channel channel, const FramePtr& frame, double seconds) {
  const std::uint64_t before = to.received;
  const auto start = Steady::now();
  from.pour(name, channel, frame, seconds);
  return static_cast<double>(to.received - before) / seconds_since(start);
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// Of both nodes together, in thousandths of a core.
double idle_load(double seconds) {
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  return (cpu_seconds() - before) / seconds * 1e3;
}

FramePtr frame_of(std::size_t bytes) {
  auto frame = std::make_shared<Frame>(bytes);
  std::memset(frame->writable().data(), 'x', bytes);
  return frame;
}

struct Report {
  RoundTrips raw_trips;
  double raw_messages_per_s = 0;
  RoundTrips trips;
  double frames_per_s = 0;
  RoundTrips busy_trips;  // on `control` while `stream` carries all that it can
  double bulk_mb_per_s = 0;
  double idle_load = 0;  // thousandths of a core
};

void measure_links(double seconds, Report& report) {
  Node alpha("alpha");
  Node beta("beta");
  alpha.start();
  beta.start();
  alpha.meet(beta);
  beta.meet(alpha);
  alpha.wait_up();
  beta.wait_up();
  beta.echo();
  const FramePtr small = frame_of(small_bytes);
  const auto ask = [&alpha, &small] { alpha.ask("beta", small); };
  report.trips = measure_round_trips(seconds, ask);
  report.idle_load = idle_load(seconds);
  report.frames_per_s = rate_of(alpha, beta, "beta", Channel::ledger, small, seconds);

  std::atomic<bool> pouring{true};
  const FramePtr bulk = frame_of(bulk_bytes);
  const std::uint64_t bulk_before = beta.received_bytes;
  const auto bulk_start = Steady::now();
  std::thread pourer([&alpha, &bulk, &pouring] {
    while (pouring) alpha.pour("beta", Channel::stream, bulk, 0.05);
  });
  report.busy_trips = measure_round_trips(seconds, ask);
  report.bulk_mb_per_s =
      static_cast<double>(beta.received_bytes - bulk_before) / seconds_since(bulk_start) / 1e6;
  pouring = false;
  pourer.join();
  alpha.finish();
  beta.finish();
}

void print(const Report& report) {
  std::printf("libzmq alone   round trip p50 %6.1f us, p99 %6.1f us; %9.0f messages/s of %zu bytes\n",
              report.raw_trips.p50_us, report.raw_trips.p99_us, report.raw_messages_per_s, small_bytes);
  std::printf("link           round trip p50 %6.1f us, p99 %6.1f us; %9.0f frames/s of %zu bytes\n",
              report.trips.p50_us, report.trips.p99_us, report.frames_per_s, small_bytes);
  std::printf("               round trip p50 %6.1f us, p99 %6.1f us while stream carries %.0f MB/s\n",
              report.busy_trips.p50_us, report.busy_trips.p99_us, report.bulk_mb_per_s);
  std::printf("               two idle nodes take %.2f thousandths of a core\n", report.idle_load);
  std::printf("ratio          round trip p50 %.2f of libzmq's; frames/s %.2f of its messages/s\n",
              report.trips.p50_us / report.raw_trips.p50_us, report.frames_per_s / report.raw_messages_per_s);
}

void print_json(const Report& report) {
  std::string out;
  JsonWriter json(out);
  json.begin_object();
  json.key("round_trip_p50_us").real(report.trips.p50_us).key("round_trip_p99_us").real(report.trips.p99_us);
  json.key("frames_per_s").real(report.frames_per_s).key("idle_load").real(report.idle_load);
  json.key("busy_round_trip_p50_us").real(report.busy_trips.p50_us);
  json.key("busy_round_trip_p99_us").real(report.busy_trips.p99_us);
  json.key("bulk_mb_per_s").real(report.bulk_mb_per_s);
  json.key("libzmq_round_trip_p50_us").real(report.raw_trips.p50_us);
  json.key("libzmq_round_trip_p99_us").real(report.raw_trips.p99_us);
  json.key("libzmq_messages_per_s").real(report.raw_messages_per_s).end_object();
  std::printf("%s\n", out.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  double seconds = 3;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else {
      seconds = std::max(std::atof(argv[i]), 0.1);
    }
  }
  log::configure(log::Format::text, log::Level::warning);
  Report report;
  {
    RawPair raw;
    report.raw_trips = raw.round_trips(seconds);
    report.raw_messages_per_s = raw.messages_per_s(seconds);
  }
  measure_links(seconds, report);
  print(report);
  if (json) print_json(report);
}
