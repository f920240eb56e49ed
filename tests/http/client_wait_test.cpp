// Connecting, time-outs and cancellation: what ends a wait.
#include "tests/http/upstream_fixture.hpp"

namespace outlast::http::test::client_wait_test {

TEST_CASE("each wait for the upstream has its own time-out", "[http][client]") {
  ClientTimeouts timeouts;
  timeouts.first_byte_ms = 60;
  timeouts.idle_ms = 60;
  Upstream upstream;
  const Answer silent = upstream.ask("", false, timeouts);
  REQUIRE(silent.error);
  CHECK(is(*silent.error, HttpError::timed_out));
  CHECK(silent.error->message.find("did not begin its answer") != std::string::npos);

  const Answer half_head = upstream.ask("HTTP/1.1 200", false, timeouts);
  REQUIRE(half_head.error);
  CHECK(is(*half_head.error, HttpError::timed_out));

  const Answer half_body =
      upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false, timeouts);
  REQUIRE(half_body.error);
  CHECK(is(*half_body.error, HttpError::timed_out));
  CHECK(half_body.error->message.find("body") != std::string::npos);
  CHECK(half_body.body == "hello");
  CHECK(upstream.client.idle_connections() == 0);

  // An upstream that does not take a large request.
  std::optional<Answer> got;
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "POST", "/",
                       std::string(30'000'000, 'x'), timeouts),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  upstream.listener.peer(3).stop_receiving();
  REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
  REQUIRE(got->error);
  CHECK(is(*got->error, HttpError::write_stalled));
}

TEST_CASE("time that the caller takes between two reads is not the upstream's", "[http][client]") {
  Upstream upstream;
  ClientTimeouts timeouts;
  timeouts.first_byte_ms = timeouts.idle_ms = 60;
  std::optional<bool> ended_well;
  asio::co_spawn(
      upstream.loop.io,
      [](Upstream& to, const ClientTimeouts& within,
         std::optional<bool>& out) -> asio::awaitable<void> {
        const Origin origin = to.listener.origin();
        auto response = co_await to.client.request(origin, "GET", "/", {}, "", within);
        REQUIRE(response);
        Result<std::string_view> piece = co_await (*response)->read();
        REQUIRE(piece);
        asio::steady_timer pause(to.loop.io, std::chrono::milliseconds(400));
        co_await pause.async_wait(asio::use_awaitable);
        to.listener.peer(0).send("world");
        piece = co_await (*response)->read();
        out = piece && *piece == "world";
      }(upstream, timeouts, ended_well),
      asio::detached);
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("\r\n\r\n"));
  peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
  REQUIRE(upstream.loop.run_until([&ended_well] { return ended_well.has_value(); }));
  CHECK(*ended_well);
}

TEST_CASE("an upstream that cannot be reached is named in the error", "[http][client]") {
  Loop loop;
  Client client(loop.io, {});
  std::uint16_t free_port = 0;
  {
    Tcp::acceptor acceptor(loop.io, Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
    free_port = acceptor.local_endpoint().port();
  }
  const Answer refused =
      loop.run(fetch(client, Origin{false, "127.0.0.1", free_port, ""}, "GET", "/", ""));
  REQUIRE(refused.error);
  CHECK(is(*refused.error, HttpError::connect_failed));
  CHECK(refused.error->message.find("127.0.0.1:" + std::to_string(free_port)) != std::string::npos);

  const Answer unknown =
      loop.run(fetch(client, Origin{false, "name.invalid", 80, ""}, "GET", "/", ""));
  REQUIRE(unknown.error);
  CHECK(is(*unknown.error, HttpError::connect_failed));
  CHECK(unknown.error->message.find("name.invalid") != std::string::npos);

  const Answer bad_path =
      loop.run(fetch(client, Origin{false, "127.0.0.1", free_port, ""}, "GET", "/a b", ""));
  REQUIRE(bad_path.error);
  CHECK(is(*bad_path.error, HttpError::malformed));
}

TEST_CASE("a connection that is not made in time is an error", "[http][client]") {
  // A listener whose backlog is full drops further handshakes, as an unreachable host does.
  Loop loop;
  Tcp::acceptor acceptor(loop.io);
  acceptor.open(Tcp::v4());
  acceptor.bind(Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
  acceptor.listen(0);
  const auto endpoint = acceptor.local_endpoint();
  std::vector<std::unique_ptr<Tcp::socket>> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.push_back(std::make_unique<Tcp::socket>(loop.io));
    fillers.back()->async_connect(endpoint, [](const boost::system::error_code&) {});
  }
  Client client(loop.io, {});
  ClientTimeouts timeouts;
  timeouts.connect_ms = 100;
  const Answer late = loop.run(
      fetch(client, Origin{false, "127.0.0.1", endpoint.port(), ""}, "GET", "/", "", timeouts));
  REQUIRE(late.error);
  CHECK(is(*late.error, HttpError::connect_timed_out));

  Cancellation cancellation;
  timeouts.connect_ms = 60'000;
  asio::steady_timer soon(loop.io, std::chrono::milliseconds(20));
  soon.async_wait([&cancellation](const boost::system::error_code&) { cancellation.cancel(); });
  const Answer cancelled = loop.run(fetch(client, Origin{false, "127.0.0.1", endpoint.port(), ""},
                                          "GET", "/", "", timeouts, &cancellation));
  REQUIRE(cancelled.error);
  CHECK(is(*cancelled.error, HttpError::cancelled));
}

TEST_CASE("names are resolved", "[http][client]") {
  ServerFixture fixture;
  Client client(fixture.loop.io, {});
  // "localhost" may have an IPv6 address first, on which nothing listens.
  const Answer answer =
      fixture.loop.run(fetch(client, Origin{false, "localhost", fixture.port, ""}, "GET", "/", ""));
  REQUIRE_FALSE(answer.error);
  CHECK(answer.body == "GET / ");
}

TEST_CASE("a request can be cancelled wherever it stands", "[http][client]") {
  const std::string large(30'000'000, 'x');
  struct Case {
    const char* name;
    std::string answer;
    bool large_body;
  };
  for (const Case& one :
       {Case{"head", "", false}, Case{"head, begun", "HTTP/1.1 2", false},
        Case{"body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false},
        Case{"chunked body", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
             false},
        Case{"send", "", true}}) {
    INFO(one.name);
    Upstream upstream;
    std::optional<Answer> got;
    Cancellation cancellation;
    asio::co_spawn(upstream.loop.io,
                   fetch(upstream.client, upstream.listener.origin(), "POST", "/",
                         one.large_body ? large : "", {}, &cancellation),
                   [&got](std::exception_ptr, Answer value) { got = std::move(value); });
    RawPeer& peer = upstream.listener.peer(0);
    if (one.large_body)
      peer.stop_receiving();
    else
      REQUIRE(peer.wait_for("\r\n\r\n"));
    peer.send(one.answer);
    for (int i = 0; i < 5; ++i) {
      upstream.loop.io.restart();
      upstream.loop.io.poll();
    }
    REQUIRE_FALSE(got);
    cancellation.cancel();
    CHECK_FALSE(got);  // the waiting coroutine goes on later, not inside of cancel()
    REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
    REQUIRE(got->error);
    CHECK(is(*got->error, HttpError::cancelled));
    CHECK(upstream.client.idle_connections() == 0);
    if (!one.large_body) CHECK(peer.wait_closed());
  }
  // Before it began, and after everything has ended.
  ServerFixture fixture;
  Client client(fixture.loop.io, {});
  Cancellation early;
  early.cancel();
  CHECK(is(*fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "", {}, &early)).error,
           HttpError::cancelled));
  CHECK(fixture.server->counters().connections_accepted == 0);
  Cancellation late;
  CHECK_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "", {}, &late)).error);
  late.cancel();
  CHECK(client.idle_connections() == 1);
  CHECK_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "")).error);
}

TEST_CASE("a client's loop can end in the middle of requests", "[http][client]") {
  auto loop = std::make_unique<Loop>();
  auto client = std::make_unique<Client>(loop->io, ClientOptions{});
  Tcp::acceptor acceptor(loop->io, Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
  const Origin origin{false, "127.0.0.1", acceptor.local_endpoint().port(), ""};
  for (int i = 0; i < 3; ++i)
    asio::co_spawn(loop->io, fetch(*client, origin, "GET", "/", ""), asio::detached);
  asio::co_spawn(loop->io,
                 fetch(*client, Origin{false, "localhost", origin.port, ""}, "GET", "/", ""),
                 asio::detached);
  loop->io.poll();
  Tcp::socket first = acceptor.accept();
  loop->io.restart();
  loop->io.poll();
  asio::write(first, asio::buffer(std::string("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody")));
  loop->io.restart();
  loop->io.poll();
  first.close();
  acceptor.close();
  client.reset();
  loop.reset();
}

}  // namespace outlast::http::test::client_wait_test
