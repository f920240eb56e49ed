// What the tests of exchanges and of the front share: a lane's parts in one io_context that the test steps, scripted
// upstreams and callers on real sockets, and a meter whose durability the test holds in its hand.
#pragma once

#include <catch2/catch.hpp>

#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "core/virtual_key.hpp"
#include "gateway/front.hpp"
#include "gateway/idempotency.hpp"
#include "http/client.hpp"
#include "http/server.hpp"

namespace outlast::gateway::testing {

// For an event that is to come.
inline constexpr auto patience = std::chrono::seconds(20);

// Coroutines refer to the bench's other members, so they go before those, and the context last.
class BenchContext : public asio::io_context {
 public:
  BenchContext() : asio::io_context(1) {}
  void drop_pending() { shutdown(); }

  // Steps until the condition holds; false when it does not in time.
  template <class Condition>
  bool run_until(Condition condition) {
    restart();
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      run_one_for(std::chrono::milliseconds(50));
    }
    return true;
  }
  // Runs what can run now. Bytes on the loopback device arrive with the call that sends them.
  void settle_down() {
    restart();
    for (int quiet = 0; quiet < 3; quiet = poll() == 0 ? quiet + 1 : 0) {}
  }
};

// Coroutines wait until the test opens it.
class Gate {
 public:
  explicit Gate(asio::io_context& context) : timer_(context, std::chrono::steady_clock::time_point::max()) {}
  void open() {
    open_ = true;
    timer_.cancel();
  }
  asio::awaitable<void> passed() {
    while (!open_) {
      const auto [woken] = co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
      static_cast<void>(woken);
    }
  }

 private:
  asio::steady_timer timer_;
  bool open_ = false;
};

class FakeMeter final : public Meter {
 public:
  explicit FakeMeter(asio::io_context& context)
      : timer_(context, std::chrono::steady_clock::time_point::max()), context_(context) {}

  Result<std::uint64_t> submit(MeteringOperation operation, bool) override {
    if (full && std::holds_alternative<Reservation>(operation)) return fail(RoutingError::out_of_range, "the disk is full");
    operations.push_back(std::move(operation));
    return operations.size();
  }
  asio::awaitable<Result<void>> durable(std::uint64_t ticket) override {
    ++waits;
    if (delay_ms > 0) {
      asio::steady_timer disk(context_, std::chrono::milliseconds(delay_ms));
      co_await disk.async_wait(asio::use_awaitable);
    }
    while (held) {
      const auto [woken] = co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
      static_cast<void>(woken);
    }
    if (refuse_durable) co_return fail(RoutingError::out_of_range, "the ledger said no");
    if (refuses && refuses(operations.at(ticket - 1))) co_return fail(RoutingError::out_of_range, "the ledger said no");
    co_return Result<void>{};
  }
  [[nodiscard]] bool is_durable(std::uint64_t) const override {
    return !held && delay_ms == 0 && !refuse_durable && !refuses;
  }
  [[nodiscard]] MeterRefusal refusal(std::uint64_t) const override { return why; }

  void release() {
    held = false;
    timer_.cancel();
  }

  template <class T>
  [[nodiscard]] std::vector<T> all() const {
    std::vector<T> found;
    for (const auto& operation : operations) {
      if (const T* one = std::get_if<T>(&operation)) found.push_back(*one);
    }
    return found;
  }
  // The only one of its kind.
  template <class T>
  [[nodiscard]] T only() const {
    const auto found = all<T>();
    REQUIRE(found.size() == 1);
    return found[0];
  }

  std::vector<MeteringOperation> operations;
  std::uint64_t waits = 0;
  std::uint32_t delay_ms = 0;
  bool held = false;
  bool full = false;
  bool refuse_durable = false;
  std::function<bool(const MeteringOperation&)> refuses;  // of what durable() is asked for
  MeterRefusal why;

 private:
  asio::steady_timer timer_;
  asio::io_context& context_;
};

// What a lane reports, kept; and applied to breakers if the test says so.
class KeptOutcomes final : public OutcomeSink {
 public:
  void report(OutcomeBatch batch) override {
    for (auto& [name, outcome] : batch) {
      seen.emplace_back(name, outcome);
      if (apply) apply(name, outcome);
    }
  }
  std::vector<std::pair<std::string, Outcome>> seen;
  std::function<void(const std::string&, const Outcome&)> apply;
};

inline std::string protocol_error(unsigned, http::HttpError, std::string_view message) { return std::string(message); }

// An HTTP server whose answers are scripted, one script per request and then `otherwise`.
class Upstream {
 public:
  using Script = std::function<asio::awaitable<void>(http::Request&, http::Response&)>;
  struct Received {
    std::string target;
    std::string body;
    std::string authorization;
    std::string api_key;
  };

  explicit Upstream(asio::io_context& context)
      : server_(context, http::ServerOptions{.error_body = protocol_error, .reuse_port = false},
                [this](http::Request& request, http::Response& response) { return serve(request, response); }) {
    const auto bound = server_.listen("127.0.0.1:0");
    REQUIRE(bound);
    port = *bound;
  }

  void then(Script script) { scripts_.push_back(std::move(script)); }
  [[nodiscard]] const http::ServerCounters& counters() const { return server_.counters(); }

  Script otherwise;
  std::vector<Received> received;
  std::uint64_t finished = 0;       // scripts that ran to their end
  std::uint64_t disconnected = 0;   // callers that closed while a script ran
  std::uint16_t port = 0;

 private:
  asio::awaitable<void> serve(http::Request& request, http::Response& response) {
    received.push_back({std::string(request.target), std::string(request.body),
                        std::string(request.header("authorization")), std::string(request.header("x-api-key"))});
    response.on_disconnect([this] { ++disconnected; });
    Script script = otherwise;
    if (!scripts_.empty()) {
      script = std::move(scripts_.front());
      scripts_.pop_front();
    }
    co_await script(request, response);
    ++finished;
  }

  http::Server server_;
  std::deque<Script> scripts_;
};

// A caller on a plain socket, so that a test sees every byte and how the connection ends.
class Caller {
 public:
  Caller(asio::io_context& context, std::uint16_t port) : socket_(context) {
    socket_.connect({asio::ip::address_v4::loopback(), port});
    read_more();
  }
  void send(const std::string& bytes) { asio::write(socket_, asio::buffer(bytes)); }
  void close() { socket_.close(); }

  struct Answer {
    unsigned status = 0;
    std::map<std::string, std::string> headers;  // lower case
    std::string body;       // without its chunked framing, as far as it has come
    bool complete = false;  // to its length, or its last chunk
  };
  [[nodiscard]] Answer answer() const;
  [[nodiscard]] bool answered() const { return answer().complete; }
  [[nodiscard]] const std::string& bytes() const { return *received_; }
  [[nodiscard]] bool ended() const { return *ended_; }  // the gateway closed
  void forget() { received_->clear(); }

 private:
  void read_more() {
    socket_.async_read_some(asio::buffer(*buffer_), [this, received = received_, ended = ended_, buffer = buffer_](
                                                        const boost::system::error_code& error, std::size_t count) {
      if (error == asio::error::operation_aborted) return;  // this may be gone
      received->append(buffer->data(), count);
      if (error) *ended = true;
      else read_more();
    });
  }

  asio::ip::tcp::socket socket_;
  std::shared_ptr<std::array<char, 16 * 1024>> buffer_ = std::make_shared<std::array<char, 16 * 1024>>();
  std::shared_ptr<std::string> received_ = std::make_shared<std::string>();
  std::shared_ptr<bool> ended_ = std::make_shared<bool>(false);
};

inline Caller::Answer Caller::answer() const {
  Answer answer;
  const std::string& all = *received_;
  const std::size_t head_end = all.find("\r\n\r\n");
  if (head_end == std::string::npos) return answer;
  answer.status = static_cast<unsigned>(std::stoul(all.substr(9, 3)));
  for (std::size_t line = all.find("\r\n") + 2; line < head_end;) {
    const std::size_t line_end = std::min(all.find("\r\n", line), head_end);
    const std::size_t colon = all.find(':', line);
    std::string name = all.substr(line, colon - line);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    answer.headers[name] = all.substr(colon + 2, line_end - colon - 2);
    line = line_end + 2;
  }
  std::size_t at = head_end + 4;
  if (answer.headers.contains("content-length")) {
    answer.body = all.substr(at);
    answer.complete = answer.body.size() >= std::stoul(answer.headers["content-length"]);
    return answer;
  }
  while (at < all.size()) {
    const std::size_t line_end = all.find("\r\n", at);
    if (line_end == std::string::npos) break;
    const std::size_t size = std::stoul(all.substr(at, line_end - at), nullptr, 16);
    if (size == 0) {
      answer.complete = true;
      break;
    }
    answer.body += all.substr(line_end + 2, size);
    at = line_end + 2 + size + 2;
  }
  return answer;
}

// What the node under test is made of.
struct BenchOptions {
  std::size_t upstreams = 2;
  std::vector<Dialect> dialects;  // of the upstreams; openai where none is given
  http::ClientTimeouts timeouts{.connect_ms = 5'000, .first_byte_ms = 20'000, .idle_ms = 20'000};
  RoutePolicy policy;
  std::uint32_t max_concurrency = 0;
};

// Deployments d0, d1, … (priority 0, 1, …; model m0, m1, …) at upstreams of their own, behind the route "smart".
class GatewayBench {
 public:
  explicit GatewayBench(BenchOptions options = {}) : options_(std::move(options)) {
    for (std::size_t i = 0; i < options_.upstreams; ++i) upstreams_.push_back(std::make_unique<Upstream>(context));
    VirtualKey key{.id = "key_1", .tenant = {"acme", "search", "ann"}};
    key.hash = hasher_->of(key_text);
    auto keys = std::make_shared<KeyTable>(hasher_);
    keys->add(std::make_shared<const VirtualKey>(key));
    keys_ = std::move(keys);
    for (std::size_t i = 0; i < options_.upstreams; ++i) ports_.push_back(upstreams_[i]->port);
    publish();
    const auto bound = server.listen("127.0.0.1:0");
    REQUIRE(bound);
    port = *bound;
  }
  ~GatewayBench() { context.drop_pending(); }
  GatewayBench(const GatewayBench&) = delete;
  GatewayBench& operator=(const GatewayBench&) = delete;

  Upstream& upstream(std::size_t index) { return *upstreams_[index]; }
  DeploymentGauge& gauge(std::size_t index) { return *gauges_[index]; }
  // Deployment `index` now lives where nobody listens.
  void refuse_connections(std::size_t index) {
    asio::ip::tcp::acceptor free(context, {asio::ip::address_v4::loopback(), 0});
    ports_[index] = free.local_endpoint().port();
    free.close();
    publish();
  }
  // Deployment `index` failed a while ago: its next request is a probe.
  void make_half_open(std::size_t index) {
    Breaker breaker(BreakerPolicy{}, 1);
    for (int i = 0; i < 5; ++i) breaker.record({.failures = 1}, clock.monotonic_ns() - 10'000'000'000);
    gauges_[index]->publish(breaker);
    REQUIRE(gauges_[index]->state(clock.monotonic_ns()) == BreakerState::half_open);
  }
  void make_open(std::size_t index) {
    Breaker breaker(BreakerPolicy{}, 1);
    breaker.record({.credential_failures = 1}, clock.monotonic_ns());
    gauges_[index]->publish(breaker);
  }
  // A hard budget on a scope, of which this node's slice has so much.
  std::shared_ptr<BudgetSlice> set_budget(const std::string& scope, PicoUsd slice, bool soft = false) {
    Budget budget{.id = "bud_" + std::to_string(budgets_.size()), .scope = *Scope::parse(scope), .soft = soft};
    budgets_.push_back({budget, soft ? nullptr : std::make_shared<BudgetSlice>()});
    if (!soft) budgets_.back().slice->grant(slice);
    publish();
    return budgets_.back().slice;
  }
  void set_serving(ServingPolicy serving) {
    serving_ = serving;
    publish();
  }

  void set_rates(const std::vector<RateLimitRule>& rules) {
    rates_ = RateLimiter::make(rules, rates_.get());
    publish();
  }

  std::unique_ptr<Caller> connect() { return std::make_unique<Caller>(context, port); }
  [[nodiscard]] std::string chat(const std::string& body) const {
    return "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nAuthorization: Bearer " +
           key_text + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  [[nodiscard]] static std::string body_of(const std::string& model, bool stream, const std::string& more = "") {
    return R"({"model":")" + model + R"(","messages":[{"role":"user","content":"hello"}],"max_tokens":64)" +
           (stream ? R"(,"stream":true)" : "") + more + "}";
  }
  // A caller that has asked and will get its answer.
  std::unique_ptr<Caller> ask(bool stream, const std::string& model = "smart") {
    auto caller = connect();
    caller->send(chat(body_of(model, stream)));
    return caller;
  }
  Caller::Answer answer_of(Caller& caller) {
    INFO("received: " << caller.bytes());
    REQUIRE(context.run_until([&caller] { return caller.answered() || caller.ended(); }));
    return caller.answer();
  }
  Caller::Answer answer_to(bool stream, const std::string& model = "smart") {
    const auto caller = ask(stream, model);
    return answer_of(*caller);
  }

  BenchContext context;
  SystemClock clock;
  FakeMeter meter{context};
  KeptOutcomes outcome_sink;
  OutcomeRecorder outcomes{outcome_sink};
  LaneMetrics metrics;
  Random random{42};
  UuidGenerator ids{clock, 42};
  RetryBudget retries;
  http::Client client{context, {}};
  AnswerCache answers;
  LaneServices services{client, meter, clock, ids, random, retries, outcomes, metrics, &answers};
  SnapshotBoard board;
  SnapshotReader snapshots{board};
  bool ready = true;
  Front front{services, snapshots, [this] { return ready; }};
  http::Server server{context, http::ServerOptions{.error_body = protocol_error_body, .reuse_port = false},
                      [this](http::Request& request, http::Response& response) { return front.handle(request, response); }};
  std::uint16_t port = 0;
  const std::string key_text = make_virtual_key_text();

 private:
  void publish() {
    std::vector<Provider> providers;
    std::vector<Deployment> deployments;
    Route smart{.name = "smart", .policy = options_.policy};
    PriceBook prices("v1");
    Price price;
    price.per_token.fill(PicoUsd{1'000});
    for (std::size_t i = 0; i < ports_.size(); ++i) {
      const std::string number = std::to_string(i);
      Provider provider{.name = "p" + number, .api_key = "sk-provider-" + number};
      if (i < options_.dialects.size()) provider.dialect = options_.dialects[i];
      provider.origin = {.tls = false, .host = "127.0.0.1", .port = ports_[i], .path_prefix = "/v1"};
      deployments.push_back({.name = "d" + number,
                             .provider = provider.name,
                             .model = "m" + number,
                             .priority = static_cast<std::uint32_t>(i),
                             .max_concurrency = options_.max_concurrency,
                             .timeouts = options_.timeouts});
      prices.set(provider.name, "m" + number, price);
      providers.push_back(std::move(provider));
      smart.deployments.push_back("d" + number);
      if (gauges_.size() == i) gauges_.push_back(std::make_shared<DeploymentGauge>("d" + number));
    }
    auto snapshot = std::make_shared<Snapshot>();
    auto table = RoutingTable::make(std::move(providers), std::move(deployments), {std::move(smart)});
    REQUIRE(table);
    snapshot->routing = *table;
    snapshot->gauges = gauges_;
    snapshot->keys = keys_;
    snapshot->prices = std::make_shared<const PriceBook>(std::move(prices));
    snapshot->serving = serving_;
    auto book = std::make_shared<BudgetBook>();
    for (const BudgetBook::Entry& entry : budgets_) book->by_scope.add(entry.budget.scope, entry);
    snapshot->budgets = std::move(book);
    snapshot->rates = rates_;
    board.publish(std::move(snapshot));
  }

  BenchOptions options_;
  ServingPolicy serving_;
  std::vector<BudgetBook::Entry> budgets_;
  std::shared_ptr<const RateLimiter> rates_;
  std::shared_ptr<const HmacSha256> hasher_ =
      std::make_shared<const HmacSha256>(std::as_bytes(std::span("bench", 5)));
  std::shared_ptr<const KeyTable> keys_;
  std::vector<std::shared_ptr<DeploymentGauge>> gauges_;
  std::vector<std::unique_ptr<Upstream>> upstreams_;
  std::vector<std::uint16_t> ports_;
};

// --- what upstreams say --------------------------------------------------------------------------------------------

inline std::string openai_whole(const std::string& text) {
  return R"({"id":"c1","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":")" +
         text +
         R"("},"finish_reason":"stop"}],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}})";
}
inline std::string openai_event(const std::string& delta, const std::string& finish = "null", const std::string& more = "") {
  return R"(data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":)" + delta +
         R"(,"finish_reason":)" + finish + "}]" + more + "}\n\n";
}
inline std::string openai_role() { return openai_event(R"({"role":"assistant","content":""})"); }
inline std::string openai_text(const std::string& text) { return openai_event(R"({"content":")" + text + R"("})"); }
inline std::string openai_end() {
  return openai_event("{}", R"("stop")") +
         R"(data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}})"
         "\n\ndata: [DONE]\n\n";
}

inline const http::HeaderField json_headers[] = {{"content-type", "application/json"}};
inline const http::HeaderField stream_headers[] = {{"content-type", "text/event-stream"}};

inline Upstream::Script answers(unsigned status, std::string body, std::vector<http::HeaderField> headers = {}) {
  return [status, body = std::move(body), headers = std::move(headers)](http::Request&, http::Response& response)
             -> asio::awaitable<void> { co_await response.send(status, headers, body); };
}
inline Upstream::Script says(std::string text) { return answers(200, openai_whole(text)); }
// Events, each in a chunk of its own, and a clean end of the body.
inline Upstream::Script streams(std::vector<std::string> events) {
  return [events = std::move(events)](http::Request&, http::Response& response) -> asio::awaitable<void> {
    co_await response.start(200, stream_headers);
    for (const std::string& event : events) co_await response.write(event);
    co_await response.finish("");
  };
}
inline Upstream::Script streams_words(const std::string& text) {
  return streams({openai_role(), openai_text(text), openai_end()});
}
// Events, and then the connection is gone.
inline Upstream::Script streams_then_cuts(std::vector<std::string> events) {
  return [events = std::move(events)](http::Request&, http::Response& response) -> asio::awaitable<void> {
    co_await response.start(200, stream_headers);
    for (const std::string& event : events) co_await response.write(event);
    response.cut();
  };
}
inline Upstream::Script closes_at_once() {
  return [](http::Request&, http::Response& response) -> asio::awaitable<void> {
    response.cut();
    co_return;
  };
}
// Events, then it waits for the gate, and goes on with the rest.
inline Upstream::Script streams_through(Gate& gate, std::vector<std::string> before, std::vector<std::string> after) {
  return [&gate, before = std::move(before), after = std::move(after)](http::Request&,
                                                                       http::Response& response) -> asio::awaitable<void> {
    co_await response.start(200, stream_headers);
    for (const std::string& event : before) co_await response.write(event);
    co_await gate.passed();
    for (const std::string& event : after) co_await response.write(event);
    co_await response.finish("");
  };
}

}  // namespace outlast::gateway::testing
