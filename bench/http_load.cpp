// outlast-load: HTTP/1.1 load from one thread, for the gateway benchmark: as fast as it goes, or
// paced at a rate with latency counted from the time a request was due (so that a stall of the
// server is not hidden), whole answers or server-sent events. Prints one JSON object.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <arpa/inet.h>

#include <CLI/CLI.hpp>

#include "bench/answer_parser.hpp"
#include "core/json_writer.hpp"

namespace outlast::bench {
namespace {

struct LoadOptions {
  std::string target;  // HOST:PORT, an IPv4 address
  std::string path = "/v1/chat/completions";
  std::vector<std::string> headers;
  std::string model = "m";
  std::size_t body_bytes = 4096;
  std::uint64_t max_tokens = 0;
  bool stream = false;
  unsigned connections = 64;
  std::uint64_t requests = 0;  // 0: until the time is over
  double seconds = 0;          // 0: until the requests are done
  double rate = 0;             // requests per second; 0: closed loop
};

std::int64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1'000'000'000LL + time.tv_nsec;
}

[[noreturn]] void die(const std::string& what) {
  std::cerr << "outlast-load: " << what << '\n';
  std::exit(1);
}

std::string make_request(const LoadOptions& options) {
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("model").string(options.model);
  if (options.max_tokens != 0) json.key("max_tokens").number(options.max_tokens);
  if (options.stream) json.key("stream").boolean(true);
  json.key("messages").begin_array().begin_object().key("role").string("user").key("content");
  const std::size_t overhead = body.size() + 6;  // the quotes and brackets to come
  std::string text = "Tell me about the river. ";
  while (text.size() + overhead < options.body_bytes) text += "words about nothing much ";
  if (text.size() + overhead > options.body_bytes && options.body_bytes > overhead) {
    text.resize(options.body_bytes - overhead);
  }
  json.string(text).end_object().end_array().end_object();
  std::string request =
      "POST " + options.path + " HTTP/1.1\r\nHost: " + options.target +
      "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
      "\r\n";
  for (const std::string& header : options.headers) request += header + "\r\n";
  return request + "\r\n" + body;
}

struct Connection {
  int fd = -1;
  bool busy = false;
  bool had_event = false;
  std::size_t sent = 0;  // of the present request
  std::int64_t due_ns = 0;
  AnswerParser parser;
};

class Load {
 public:
  explicit Load(const LoadOptions& options) : options_(options), request_(make_request(options)) {
    epoll_ = epoll_create1(0);
    connections_.resize(options.connections);
    latencies_ns_.reserve(1 << 20);
    first_event_ns_.reserve(1 << 16);
    for (Connection& connection : connections_) connect(connection);
    if (options.rate > 0) start_timer();
  }

  void run() {
    begin_ns_ = now_ns();
    const std::int64_t end_ns = options_.seconds > 0
                                    ? begin_ns_ + static_cast<std::int64_t>(options_.seconds * 1e9)
                                    : INT64_MAX;
    if (options_.rate <= 0) {
      for (Connection& connection : connections_) start_next(connection, begin_ns_);
    }
    epoll_event events[256];
    while (!finished() && now_ns() < end_ns) {
      const int ready = epoll_wait(epoll_, events, 256, 100);
      if (ready < 0 && errno != EINTR) die(std::strerror(errno));
      for (int i = 0; i < ready; ++i) {
        if (events[i].data.ptr == nullptr) {
          start_due();
        } else {
          serve(*static_cast<Connection*>(events[i].data.ptr), events[i].events);
        }
      }
    }
    end_ns_ = now_ns();
  }

  void print() {
    const double seconds = static_cast<double>(end_ns_ - begin_ns_) / 1e9;
    std::string out;
    JsonWriter json(out);
    json.begin_object().key("requests").number(completed_).key("errors").number(errors_);
    json.key("reconnects").number(reconnects_).key("seconds").real(seconds);
    json.key("requests_per_s").real(static_cast<double>(completed_) / seconds);
    json.key("events")
        .number(events_)
        .key("events_per_s")
        .real(static_cast<double>(events_) / seconds);
    json.key("statuses").begin_object();
    for (const auto& [status, count] : statuses_) json.key(std::to_string(status)).number(count);
    json.end_object();
    write_quantiles(json, "latency_us", latencies_ns_);
    write_quantiles(json, "first_event_us", first_event_ns_);
    json.end_object();
    std::cout << out << std::endl;
  }

  [[nodiscard]] bool clean() const { return errors_ == 0; }

 private:
  static void write_quantiles(JsonWriter& json, std::string_view name,
                              std::vector<std::int64_t>& values) {
    std::sort(values.begin(), values.end());
    json.key(name).begin_object();
    for (const auto& [label, quantile] :
         {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}}) {
      if (values.empty()) break;
      const auto at = static_cast<std::size_t>(quantile * static_cast<double>(values.size() - 1));
      json.key(label).real(static_cast<double>(values[at]) / 1000.0);
    }
    json.end_object();
  }

  void connect(Connection& connection) {
    const auto colon = options_.target.rfind(':');
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port =
        htons(static_cast<std::uint16_t>(std::atoi(options_.target.c_str() + colon + 1)));
    if (inet_pton(AF_INET, options_.target.substr(0, colon).c_str(), &address.sin_addr) != 1) {
      die("--target: expected IPV4:PORT, not " + options_.target);
    }
    connection.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(connection.fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) {
      die("connect to " + options_.target + ": " + std::strerror(errno));
    }
    const int one = 1;
    setsockopt(connection.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &connection;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.fd, &event);
    connection.parser.start_over();
    if (options_.rate > 0) idle_.push_back(&connection);
  }

  void reconnect(Connection& connection) {
    close(connection.fd);
    ++reconnects_;
    std::erase(idle_, &connection);
    connect(connection);
  }

  void start_timer() {
    timer_ = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    const auto interval = static_cast<std::int64_t>(1e9 / options_.rate);
    itimerspec spec{};
    spec.it_interval = {interval / 1'000'000'000, interval % 1'000'000'000};
    spec.it_value = spec.it_interval;
    next_due_ns_ = now_ns() + interval;
    timerfd_settime(timer_, 0, &spec, nullptr);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, timer_, &event);
  }

  // Paced: what has become due starts on idle connections; what finds none waits, and its wait
  // counts.
  void start_due() {
    std::uint64_t ticks = 0;
    if (read(timer_, &ticks, sizeof(ticks)) != sizeof(ticks)) return;
    for (; ticks > 0; --ticks) {
      waiting_.push_back(next_due_ns_);
      next_due_ns_ += static_cast<std::int64_t>(1e9 / options_.rate);
    }
    start_waiting();
  }

  void start_waiting() {
    while (!waiting_.empty() && !idle_.empty()) {
      Connection& connection = *idle_.back();
      idle_.pop_back();
      const std::int64_t due = waiting_.front();
      waiting_.pop_front();
      start_next(connection, due);
    }
  }

  void start_next(Connection& connection, std::int64_t due_ns) {
    if (options_.requests != 0 && started_ >= options_.requests) return;
    ++started_;
    connection.busy = true;
    connection.had_event = false;
    connection.sent = 0;
    connection.due_ns = due_ns;
    send_rest(connection);
  }

  void send_rest(Connection& connection) {
    while (connection.sent < request_.size()) {
      const ssize_t count = send(connection.fd, request_.data() + connection.sent,
                                 request_.size() - connection.sent, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return;  // the answer's side will tell
      connection.sent += static_cast<std::size_t>(count);
    }
  }

  void serve(Connection& connection, std::uint32_t) {
    char buffer[64 * 1024];
    const ssize_t count = recv(connection.fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
      failed(connection);
      return;
    }
    const auto state = connection.parser.feed({buffer, static_cast<std::size_t>(count)});
    if (const std::uint64_t events = connection.parser.take_events(); events != 0)
      note_events(connection, events);
    if (state == AnswerParser::State::broken) failed(connection);
    if (state == AnswerParser::State::complete) complete(connection);
  }

  void note_events(Connection& connection, std::uint64_t events) {
    events_ += events;
    if (connection.had_event) return;
    connection.had_event = true;
    first_event_ns_.push_back(now_ns() - connection.due_ns);
    if (first_event_ns_.size() == connections_.size())
      std::cerr << "every stream is open" << std::endl;
  }

  void failed(Connection& connection) {
    const bool busy = std::exchange(connection.busy, false);
    if (busy) ++errors_;
    if (finished()) return;
    reconnect(connection);
    if (busy && options_.rate <= 0) start_next(connection, now_ns());
  }

  void complete(Connection& connection) {
    const std::int64_t now = now_ns();
    connection.busy = false;
    ++completed_;
    ++statuses_[connection.parser.status()];
    if (connection.parser.status() != 200) ++errors_;
    latencies_ns_.push_back(now - connection.due_ns);
    const bool closes = connection.parser.closes();
    if (closes) reconnect(connection);
    if (options_.rate <= 0) {
      start_next(connection, now);
    } else {
      if (!closes) idle_.push_back(&connection);
      start_waiting();
    }
  }

  [[nodiscard]] bool finished() const {
    return options_.requests != 0 && completed_ + errors_unanswered() >= options_.requests;
  }
  // Requests that ended without an answer.
  [[nodiscard]] std::uint64_t errors_unanswered() const {
    std::uint64_t answered_badly = 0;
    for (const auto& [status, count] : statuses_) answered_badly += status != 200 ? count : 0;
    return errors_ - answered_badly;
  }

  const LoadOptions options_;
  const std::string request_;
  int epoll_ = -1;
  int timer_ = -1;
  std::vector<Connection> connections_;
  std::vector<Connection*> idle_;     // paced only
  std::deque<std::int64_t> waiting_;  // paced only: due times
  std::int64_t next_due_ns_ = 0;
  std::int64_t begin_ns_ = 0;
  std::int64_t end_ns_ = 0;
  std::uint64_t started_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t errors_ = 0;
  std::uint64_t reconnects_ = 0;
  std::uint64_t events_ = 0;
  std::map<int, std::uint64_t> statuses_;
  std::vector<std::int64_t> latencies_ns_;
  std::vector<std::int64_t> first_event_ns_;
};

}  // namespace
}  // namespace outlast::bench

int main(int argc, char** argv) {
  outlast::bench::LoadOptions options;
  CLI::App app("HTTP load from one thread; prints one JSON object.", "outlast-load");
  app.add_option("target", options.target, "IPV4:PORT")->required();
  app.add_option("--path", options.path)->capture_default_str();
  app.add_option("--header", options.headers, "NAME: VALUE; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--model", options.model)->capture_default_str();
  app.add_option("--max-tokens", options.max_tokens);
  app.add_option("--body-bytes", options.body_bytes)->capture_default_str();
  app.add_flag("--stream", options.stream, "ask for server-sent events");
  app.add_option("--connections", options.connections)
      ->check(CLI::Range(1, 20'000))
      ->capture_default_str();
  app.add_option("--requests", options.requests, "end after so many");
  app.add_option("--seconds", options.seconds, "end after this time");
  app.add_option("--rate", options.rate,
                 "requests per second; without it, as fast as answers come");
  CLI11_PARSE(app, argc, argv);
  if (options.requests == 0 && options.seconds <= 0) {
    std::cerr << "outlast-load: give --requests or --seconds\n";
    return 2;
  }
  outlast::bench::Load load(options);
  load.run();
  load.print();
  return load.clean() ? 0 : 1;
}
