// What the HTTP tests share: one io_context for both sides, a server with a handler of the test's
// choice, and a peer that sends and receives raw bytes.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <catch2/catch.hpp>

#include "http/client.hpp"
#include "http/server.hpp"

namespace outlast::http::test {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;

// Long enough for a slow machine; reaching it fails the test.
inline constexpr std::chrono::seconds patience{20};

class Loop {
 public:
  asio::io_context io{1};

  // Runs until `done` says so; false when that took too long.
  bool run_until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      io.restart();
      io.run_one_for(std::chrono::milliseconds(50));
    }
    return true;
  }

  // Runs a coroutine to its end.
  template <class T>
  T run(asio::awaitable<T> work) {
    std::optional<T> result;
    std::exception_ptr thrown;
    asio::co_spawn(io, std::move(work), [&result, &thrown](std::exception_ptr error, T value) {
      thrown = error;
      result.emplace(std::move(value));
    });
    const bool finished = run_until([&result] { return result.has_value(); });
    REQUIRE(finished);
    if (thrown) std::rethrow_exception(thrown);
    return std::move(*result);
  }
};

// One side of a TCP connection, byte by byte as the test says.
class RawPeer {
 public:
  RawPeer(Loop& loop, std::uint16_t port) : loop_(loop), socket_(loop.io) {
    socket_.connect(Tcp::endpoint(asio::ip::make_address("127.0.0.1"), port));
    socket_.set_option(Tcp::no_delay(true));
    receive();
  }
  RawPeer(Loop& loop, Tcp::socket socket) : loop_(loop), socket_(std::move(socket)) { receive(); }
  RawPeer(const RawPeer&) = delete;
  RawPeer& operator=(const RawPeer&) = delete;
  ~RawPeer() {
    close();
    const bool ended = loop_.run_until([this] { return !receiving_; });
    CHECK(ended);
  }

  void send(std::string_view bytes) {
    boost::system::error_code
        ignored;  // the other side may have closed: what it said before counts
    asio::write(socket_, asio::buffer(bytes.data(), bytes.size()), ignored);
  }
  // One byte at a time, each in its own segment, as the other side sees them.
  void send_slowly(std::string_view bytes) {
    for (const char& byte : bytes) {
      send({&byte, 1});
      loop_.io.restart();
      loop_.io.poll();
    }
  }
  void half_close() { socket_.shutdown(Tcp::socket::shutdown_send); }
  void reset() {
    socket_.set_option(asio::socket_base::linger(true, 0));
    socket_.close();
  }
  void close() {
    boost::system::error_code ignored;
    socket_.close(ignored);
  }
  void stop_receiving() {
    paused_ = true;
    socket_.cancel();
    loop_.run_until([this] { return !receiving_; });
  }

  [[nodiscard]] const std::string& received() const { return received_; }
  [[nodiscard]] bool closed() const { return closed_; }
  [[nodiscard]] bool was_reset() const { return reset_; }
  void forget() { received_.clear(); }

  bool wait_for(std::string_view text) {
    return loop_.run_until([this, text] {
      return received_.find(text) != std::string::npos || closed_;
    }) && received_.find(text) != std::string::npos;
  }
  bool wait_closed() {
    return loop_.run_until([this] { return closed_; });
  }
  // Everything until the other side closes.
  std::string read_all() {
    const bool ended = wait_closed();
    CHECK(ended);
    return received_;
  }

 private:
  void receive() {
    receiving_ = true;
    socket_.async_read_some(asio::buffer(chunk_),
                            [this](const boost::system::error_code& error, std::size_t count) {
                              receiving_ = false;
                              if (error) {
                                closed_ = !paused_;
                                reset_ = error == asio::error::connection_reset;
                                return;
                              }
                              received_.append(chunk_.data(), count);
                              if (!paused_) receive();
                            });
  }

  Loop& loop_;
  Tcp::socket socket_;
  std::array<char, 65536> chunk_;
  std::string received_;
  bool receiving_ = false;
  bool paused_ = false;
  bool closed_ = false;
  bool reset_ = false;
};

// A listener of the test's own: it plays an upstream that breaks the rules.
class RawListener {
 public:
  explicit RawListener(Loop& loop)
      : loop_(loop), acceptor_(loop.io, Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0)) {
    accept();
  }
  RawListener(const RawListener&) = delete;
  RawListener& operator=(const RawListener&) = delete;
  ~RawListener() {
    acceptor_.close();
    const bool ended = loop_.run_until([this] { return !accepting_; });
    CHECK(ended);
  }

  [[nodiscard]] std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  [[nodiscard]] Origin origin() const { return {false, "127.0.0.1", port(), ""}; }
  [[nodiscard]] std::size_t accepted() const { return peers_.size(); }
  // The nth connection, once it is there.
  RawPeer& peer(std::size_t n) {
    const bool there = loop_.run_until([this, n] { return peers_.size() > n; });
    REQUIRE(there);
    return *peers_[n];
  }
  // What to do with each connection when it is accepted.
  std::function<void(RawPeer&)> on_accept;

 private:
  void accept() {
    accepting_ = true;
    acceptor_.async_accept([this](const boost::system::error_code& error, Tcp::socket socket) {
      accepting_ = false;
      if (error) return;
      peers_.push_back(std::make_unique<RawPeer>(loop_, std::move(socket)));
      if (on_accept) on_accept(*peers_.back());
      accept();
    });
  }

  Loop& loop_;
  Tcp::acceptor acceptor_;
  std::vector<std::unique_ptr<RawPeer>> peers_;
  bool accepting_ = false;
};

// Waits until the test lets it go on, then answers.
struct Gate {
  explicit Gate(asio::io_context& io) : timer(io) {
    timer.expires_at(asio::steady_timer::time_point::max());
  }
  void open() { timer.cancel(); }
  asio::awaitable<void> wait() {
    boost::system::error_code cancelled;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
  }
  asio::steady_timer timer;
};

inline std::string plain_error(unsigned status, HttpError, std::string_view message) {
  return "{\"status\":" + std::to_string(status) + ",\"message\":\"" + std::string(message) + "\"}";
}

// Answers every request with its method, path and body.
inline asio::awaitable<void> echo(Request& request, Response& response) {
  std::string body(request.method);
  body.append(" ").append(request.target).append(" ").append(request.body);
  const HeaderField type{"Content-Type", "text/plain"};
  Result<void> sent = co_await response.send(200, std::span(&type, 1), body);
  (void)sent;
}

class ServerFixture {
 public:
  explicit ServerFixture(Handler handler = echo, ServerLimits limits = {},
                         const TlsServerFiles* tls = nullptr) {
    ServerOptions options;
    options.limits = limits;
    options.error_body = plain_error;
    options.tls = tls;
    server.emplace(loop.io, options, std::move(handler));
    const auto bound = server->listen("127.0.0.1:0");
    REQUIRE(bound);
    port = *bound;
  }
  ServerFixture(const ServerFixture&) = delete;
  ServerFixture& operator=(const ServerFixture&) = delete;
  ~ServerFixture() {
    server->close();
    const bool ended = loop.run_until([this] { return server->counters().connections_open == 0; });
    CHECK(ended);
  }

  [[nodiscard]] Origin origin() const { return {false, "127.0.0.1", port, ""}; }
  // Outlives the handlers that wait at it, and ends before the loop.
  Gate& add_gate() { return *gates.emplace_back(std::make_unique<Gate>(loop.io)); }

  Loop loop;
  std::vector<std::unique_ptr<Gate>> gates;
  std::optional<Server> server;
  std::uint16_t port = 0;
};

// What a client gets of one request, whole.
struct Answer {
  unsigned status = 0;
  std::string body;
  std::optional<Error> error;  // of the request or of the body
  bool head_arrived = false;
};

inline asio::awaitable<Answer> fetch(Client& client, Origin origin, std::string method,
                                     std::string path, std::string body,
                                     ClientTimeouts timeouts = {},
                                     Cancellation* cancellation = nullptr) {
  Answer answer;
  auto response = co_await client.request(origin, method, path, std::span<const HeaderField>{},
                                          body, timeouts, cancellation);
  if (!response) {
    answer.error = response.error();
    co_return answer;
  }
  answer.head_arrived = true;
  answer.status = (*response)->status();
  while (true) {
    Result<std::string_view> piece = co_await (*response)->read();
    if (!piece) {
      answer.error = piece.error();
      break;
    }
    if (piece->empty()) break;
    answer.body.append(*piece);
  }
  co_return answer;
}

inline std::string get(std::string_view path = "/", std::string_view more = "") {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" + std::string(more) + "\r\n";
}
inline std::string post(std::string_view body, std::string_view more = "") {
  return "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n" + std::string(more) + "\r\n" + std::string(body);
}

inline std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (auto at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace outlast::http::test
