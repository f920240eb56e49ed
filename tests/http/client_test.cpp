// Requests to upstreams: bodies, pool, time-outs, cancellation, and upstreams that break the rules.
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test {
namespace {

// An upstream of raw bytes and a client that asks it.
struct Upstream {
  Loop loop;
  RawListener listener{loop};
  Client client{loop.io, {}};

  // One request against an upstream that answers every request head with `answer`, and closes if told to.
  Answer ask(std::string_view answer, bool close, ClientTimeouts timeouts = {}, std::string method = "GET") {
    listener.on_accept = nullptr;
    const auto before = listener.accepted();
    std::optional<Answer> got;
    asio::co_spawn(loop.io, fetch(client, listener.origin(), std::move(method), "/", "", timeouts),
                   [&got](std::exception_ptr, Answer value) { got = std::move(value); });
    RawPeer& peer = listener.peer(before);
    REQUIRE(peer.wait_for("\r\n\r\n"));
    for (std::size_t i = 0; i < answer.size() && !peer.closed(); i += split) {
      peer.send(answer.substr(i, split));
      loop.io.restart();
      loop.io.poll();
    }
    if (close) peer.half_close();
    REQUIRE(loop.run_until([&got] { return got.has_value(); }));
    return *got;
  }
  std::size_t split = 1'000'000;
};

}  // namespace

TEST_CASE("a request reaches the upstream as it was asked for", "[http][client]") {
  Upstream upstream;
  Origin origin = upstream.listener.origin();
  origin.path_prefix = "/v1";
  const HeaderField fields[] = {{"Authorization", "Bearer x"}, {"X-Odd", "a\r\nX-Injected: b"}};
  std::optional<unsigned> status;
  const ClientTimeouts timeouts;
  asio::co_spawn(
      upstream.loop.io,
      [](Upstream& to, const Origin& at, std::span<const HeaderField> with, const ClientTimeouts& within,
         std::optional<unsigned>& out) -> asio::awaitable<void> {
        auto response = co_await to.client.request(at, "POST", "/chat?x=y", with, "{\"a\":1}", within);
        REQUIRE(response);
        CHECK((*response)->header("CONTENT-type") == "text/plain");
        CHECK((*response)->header("absent").empty());
        out = (*response)->status();
      }(upstream, origin, fields, timeouts, status),
      asio::detached);
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("{\"a\":1}"));
  CHECK(peer.received() == "POST /v1/chat?x=y HTTP/1.1\r\nHost: 127.0.0.1:" +
                               std::to_string(upstream.listener.port()) +
                               "\r\nAuthorization: Bearer x\r\nX-Odd: a  X-Injected: b\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
  peer.send("HTTP/1.1 201 Created\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n");
  REQUIRE(upstream.loop.run_until([&status] { return status.has_value(); }));
  CHECK(*status == 201);
}

TEST_CASE("bodies of each framing are read, split anywhere", "[http][client]") {
  struct Case {
    const char* name;
    std::string answer;
    std::string body;
    bool close;
    bool kept;
  };
  const std::vector<Case> cases = {
      {"length", "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", "hello world", false, true},
      {"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false, true},
      {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n",
       "hello world", false, true},
      {"until close", "HTTP/1.1 200 OK\r\n\r\nhello world", "hello world", true, false},
      {"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false, false},
      {"closing", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello", false, false},
      {"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", false, true},
      {"after informational answers",
       "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
       "hello", false, true},
  };
  for (const Case& one : cases) {
    for (const std::size_t split : {std::size_t{1'000'000}, std::size_t{1}, std::size_t{7}}) {
      INFO(one.name << ", in pieces of " << split);
      Upstream upstream;
      upstream.split = split;
      const Answer answer = upstream.ask(one.answer, one.close);
      CHECK_FALSE(answer.error);
      CHECK(answer.status / 100 == 2);
      CHECK(answer.body == one.body);
      CHECK(upstream.client.idle_connections() == (one.kept ? 1 : 0));
    }
  }
}

TEST_CASE("the answer to HEAD has no body whatever its length says", "[http][client]") {
  Upstream upstream;
  const Answer answer = upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", false, {}, "HEAD");
  CHECK_FALSE(answer.error);
  CHECK(answer.body.empty());
  CHECK(upstream.client.idle_connections() == 1);
}

TEST_CASE("malformed answers are refused", "[http][client]") {
  const std::vector<std::string> answers = {
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
      "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
      "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 20 OK\r\n\r\n",
      "HTTP/1.1 2000 OK\r\n\r\n",
      "HTTP/2.0 200 OK\r\n\r\n",
      "SSH-2.0-OpenSSH_9.2\r\n\r\n",
      "\x15\x03\x01",
      "HTTP/1.1 101 Switching Protocols\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
  };
  for (const auto& text : answers) {
    INFO(text);
    Upstream upstream;
    const Answer answer = upstream.ask(text, false);
    REQUIRE(answer.error);
    CHECK(is(*answer.error, HttpError::malformed));
    CHECK(answer.error->message.find("127.0.0.1:") != std::string::npos);
    CHECK(upstream.client.idle_connections() == 0);
  }
  Upstream upstream;
  const Answer answer = upstream.ask("HTTP/1.1 200 OK\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n", false);
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::head_too_large));
}

TEST_CASE("an answer that is cut is an error and never a clean end", "[http][client]") {
  const std::vector<std::string> answers = {
      "", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
  };
  for (const auto& text : answers) {
    INFO(text);
    Upstream upstream;
    const Answer answer = upstream.ask(text, true);
    REQUIRE(answer.error);
    CHECK(is(*answer.error, HttpError::closed));
    if (answer.head_arrived) CHECK(answer.body == "hello");
  }
  // A body until the close that ends with a reset is cut too.
  Upstream upstream;
  std::optional<Answer> got;
  asio::co_spawn(upstream.loop.io, fetch(upstream.client, upstream.listener.origin(), "GET", "/", ""),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("\r\n\r\n"));
  peer.send("HTTP/1.1 200 OK\r\n\r\nhello");
  for (int i = 0; i < 5; ++i) {
    upstream.loop.io.restart();
    upstream.loop.io.poll();
  }
  peer.reset();
  REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
  REQUIRE(got->error);
  CHECK(got->body == "hello");
  CHECK(is(*got->error, HttpError::closed));
}

TEST_CASE("what our server cuts, our client sees as cut", "[http][client]") {
  ServerFixture fixture([](Request& request, Response& response) -> asio::awaitable<void> {
    Result<void> done = co_await response.start(200, {});
    if (done) done = co_await response.write("some");
    if (request.path() == "/cut") {
      response.cut();
    } else {
      done = co_await response.finish("thing");
    }
  });
  Client client(fixture.loop.io, {});
  const Answer cut = fixture.loop.run(fetch(client, fixture.origin(), "GET", "/cut", ""));
  REQUIRE(cut.error);
  CHECK(is(*cut.error, HttpError::closed));
  CHECK(cut.body == "some");
  const Answer whole = fixture.loop.run(fetch(client, fixture.origin(), "GET", "/whole", ""));
  CHECK_FALSE(whole.error);
  CHECK(whole.body == "something");
}

TEST_CASE("connections are reused, the last one first, up to the limit", "[http][client]") {
  ServerFixture fixture;
  ClientOptions options;
  options.idle_connections_per_origin_max = 3;
  Client client(fixture.loop.io, options);
  for (int i = 0; i < 20; ++i) {
    const Answer answer = fixture.loop.run(fetch(client, fixture.origin(), "POST", "/", "body"));
    REQUIRE_FALSE(answer.error);
    CHECK(answer.body == "POST / body");
  }
  CHECK(fixture.server->counters().connections_accepted == 1);
  CHECK(client.idle_connections() == 1);

  int done = 0;
  for (int i = 0; i < 5; ++i) {
    asio::co_spawn(fixture.loop.io, fetch(client, fixture.origin(), "GET", "/", ""),
                   [&done](std::exception_ptr, Answer answer) { done += answer.error ? 0 : 1; });
  }
  REQUIRE(fixture.loop.run_until([&done] { return done == 5; }));
  CHECK(fixture.server->counters().connections_accepted == 5);
  CHECK(client.idle_connections() == 3);
}

TEST_CASE("an idle connection that the upstream closes leaves the pool by itself", "[http][client]") {
  ServerLimits limits;
  limits.idle_timeout_ms = 30;
  ServerFixture fixture(echo, limits);
  Client client(fixture.loop.io, {});
  REQUIRE_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "")).error);
  CHECK(client.idle_connections() == 1);
  CHECK(fixture.loop.run_until([&client] { return client.idle_connections() == 0; }));
}

TEST_CASE("an idle connection that is spoken to is not used again", "[http][client]") {
  Upstream upstream;
  const Answer first = upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false);
  REQUIRE_FALSE(first.error);
  CHECK(upstream.client.idle_connections() == 1);
  upstream.listener.peer(0).send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npoisons");
  CHECK(upstream.loop.run_until([&upstream] { return upstream.client.idle_connections() == 0; }));
  // The same in one segment with the answer's end.
  const Answer second = upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", false);
  CHECK(second.body == "ok");
  CHECK(upstream.client.idle_connections() == 0);
}

TEST_CASE("idle connections are closed after their time", "[http][client]") {
  ServerFixture fixture;
  ClientOptions options;
  options.idle_timeout_ms = 30;
  Client client(fixture.loop.io, options);
  REQUIRE_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "")).error);
  CHECK(fixture.loop.run_until([&client] { return client.idle_connections() == 0; }));
  CHECK(fixture.loop.run_until([&fixture] { return fixture.server->counters().connections_open == 0; }));
}

TEST_CASE("a kept connection that proves closed is replaced once, a new one is not", "[http][client]") {
  Upstream upstream;
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  REQUIRE_FALSE(upstream.ask(ok, false).error);
  std::optional<Answer> got;
  asio::co_spawn(upstream.loop.io, fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  // The upstream closes just as the second request arrives on the kept connection.
  upstream.listener.peer(0).forget();
  REQUIRE(upstream.listener.peer(0).wait_for("body"));
  upstream.listener.peer(0).close();
  RawPeer& second = upstream.listener.peer(1);
  REQUIRE(second.wait_for("body"));
  second.send(ok);
  REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
  CHECK_FALSE(got->error);
  CHECK(got->body == "ok");

  // Now the kept connection closes and so does the one that replaces it.
  got.reset();
  upstream.listener.on_accept = [](RawPeer& peer) { peer.close(); };
  asio::co_spawn(upstream.loop.io, fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  second.forget();
  REQUIRE(second.wait_for("body"));
  second.reset();
  REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
  REQUIRE(got->error);
  CHECK(is(*got->error, HttpError::closed));
  CHECK(upstream.listener.accepted() == 3);

  // A kept connection that has begun to answer is not replaced.
  upstream.listener.on_accept = nullptr;
  REQUIRE_FALSE(upstream.ask(ok, false).error);
  got.reset();
  asio::co_spawn(upstream.loop.io, fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
                 [&got](std::exception_ptr, Answer value) { got = std::move(value); });
  RawPeer& begun = upstream.listener.peer(3);
  begun.forget();
  REQUIRE(begun.wait_for("body"));
  begun.send("HTTP/1.1 2");
  begun.close();
  REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
  REQUIRE(got->error);
  CHECK(is(*got->error, HttpError::closed));
  CHECK(upstream.listener.accepted() == 4);
}

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

  const Answer half_body = upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false, timeouts);
  REQUIRE(half_body.error);
  CHECK(is(*half_body.error, HttpError::timed_out));
  CHECK(half_body.error->message.find("body") != std::string::npos);
  CHECK(half_body.body == "hello");
  CHECK(upstream.client.idle_connections() == 0);

  // An upstream that does not take a large request.
  std::optional<Answer> got;
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "POST", "/", std::string(30'000'000, 'x'), timeouts),
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
      [](Upstream& to, const ClientTimeouts& within, std::optional<bool>& out) -> asio::awaitable<void> {
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
  const Answer refused = loop.run(fetch(client, Origin{false, "127.0.0.1", free_port, ""}, "GET", "/", ""));
  REQUIRE(refused.error);
  CHECK(is(*refused.error, HttpError::connect_failed));
  CHECK(refused.error->message.find("127.0.0.1:" + std::to_string(free_port)) != std::string::npos);

  const Answer unknown = loop.run(fetch(client, Origin{false, "name.invalid", 80, ""}, "GET", "/", ""));
  REQUIRE(unknown.error);
  CHECK(is(*unknown.error, HttpError::connect_failed));
  CHECK(unknown.error->message.find("name.invalid") != std::string::npos);

  const Answer bad_path = loop.run(fetch(client, Origin{false, "127.0.0.1", free_port, ""}, "GET", "/a b", ""));
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
  const Answer late = loop.run(fetch(client, Origin{false, "127.0.0.1", endpoint.port(), ""}, "GET", "/", "", timeouts));
  REQUIRE(late.error);
  CHECK(is(*late.error, HttpError::connect_timed_out));

  Cancellation cancellation;
  timeouts.connect_ms = 60'000;
  asio::steady_timer soon(loop.io, std::chrono::milliseconds(20));
  soon.async_wait([&cancellation](const boost::system::error_code&) { cancellation.cancel(); });
  const Answer cancelled =
      loop.run(fetch(client, Origin{false, "127.0.0.1", endpoint.port(), ""}, "GET", "/", "", timeouts, &cancellation));
  REQUIRE(cancelled.error);
  CHECK(is(*cancelled.error, HttpError::cancelled));
}

TEST_CASE("names are resolved", "[http][client]") {
  ServerFixture fixture;
  Client client(fixture.loop.io, {});
  // "localhost" may have an IPv6 address first, on which nothing listens.
  const Answer answer = fixture.loop.run(fetch(client, Origin{false, "localhost", fixture.port, ""}, "GET", "/", ""));
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
  for (const Case& one : {Case{"head", "", false}, Case{"head, begun", "HTTP/1.1 2", false},
                          Case{"body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", false},
                          Case{"chunked body", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", false},
                          Case{"send", "", true}}) {
    INFO(one.name);
    Upstream upstream;
    std::optional<Answer> got;
    Cancellation cancellation;
    asio::co_spawn(upstream.loop.io,
                   fetch(upstream.client, upstream.listener.origin(), "POST", "/", one.large_body ? large : "", {},
                         &cancellation),
                   [&got](std::exception_ptr, Answer value) { got = std::move(value); });
    RawPeer& peer = upstream.listener.peer(0);
    if (one.large_body) peer.stop_receiving();
    else REQUIRE(peer.wait_for("\r\n\r\n"));
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
  CHECK(is(*fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "", {}, &early)).error, HttpError::cancelled));
  CHECK(fixture.server->counters().connections_accepted == 0);
  Cancellation late;
  CHECK_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "", {}, &late)).error);
  late.cancel();
  CHECK(client.idle_connections() == 1);
  CHECK_FALSE(fixture.loop.run(fetch(client, fixture.origin(), "GET", "/", "")).error);
}

TEST_CASE("an answer that is let go of before its end closes the connection", "[http][client]") {
  Upstream upstream;
  bool done = false;
  asio::co_spawn(
      upstream.loop.io,
      [](Upstream& to, bool& out) -> asio::awaitable<void> {
        const Origin origin = to.listener.origin();
        const ClientTimeouts timeouts;
        auto response = co_await to.client.request(origin, "GET", "/", {}, "", timeouts);
        REQUIRE(response);
        Result<std::string_view> piece = co_await (*response)->read();
        CHECK(piece);
        out = true;
      }(upstream, done),
      asio::detached);
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("\r\n\r\n"));
  peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
  REQUIRE(upstream.loop.run_until([&done] { return done; }));
  CHECK(peer.wait_closed());
  CHECK(upstream.client.idle_connections() == 0);
}

TEST_CASE("pieces come as they arrive, and an end that has arrived need not be read", "[http][client]") {
  Upstream upstream;
  bool done = false;
  asio::co_spawn(
      upstream.loop.io,
      [](Upstream& to, bool& out) -> asio::awaitable<void> {
        const Origin origin = to.listener.origin();
        const ClientTimeouts timeouts;
        auto response = co_await to.client.request(origin, "GET", "/", {}, "", timeouts);
        REQUIRE(response);
        Result<std::string_view> piece = co_await (*response)->read();
        REQUIRE(piece);
        CHECK(*piece == "first");
        CHECK_FALSE((*response)->read_ready());
        to.listener.peer(0).send("6\r\nsecond\r\n5\r\nthird\r\n0\r\n\r\n");
        piece = co_await (*response)->read();
        CHECK(*piece == "second");
        CHECK((*response)->read_ready());
        piece = co_await (*response)->read();
        CHECK(*piece == "third");
        CHECK((*response)->read_ready());
        out = true;
      }(upstream, done),
      asio::detached);
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("\r\n\r\n"));
  peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
  REQUIRE(upstream.loop.run_until([&done] { return done; }));
  CHECK(upstream.client.idle_connections() == 1);
}

TEST_CASE("an upstream that refuses a large request early is heard", "[http][client]") {
  for (const bool close : {true, false}) {
    Upstream upstream;
    std::optional<Answer> got;
    asio::co_spawn(upstream.loop.io,
                   fetch(upstream.client, upstream.listener.origin(), "POST", "/", std::string(30'000'000, 'x')),
                   [&got](std::exception_ptr, Answer value) { got = std::move(value); });
    RawPeer& peer = upstream.listener.peer(0);
    peer.stop_receiving();
    peer.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig");
    if (close) peer.half_close();
    REQUIRE(upstream.loop.run_until([&got] { return got.has_value(); }));
    REQUIRE_FALSE(got->error);
    CHECK(got->status == 413);
    CHECK(got->body == "big");
    CHECK(upstream.client.idle_connections() == 0);
  }
}

TEST_CASE("a large body passes a proxy of server and client whole", "[http][client]") {
  std::string large(5'000'000, ' ');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>('a' + i % 19);
  ServerFixture upstream;
  // Both servers share one loop through the client's.
  ServerOptions options;
  options.error_body = plain_error;
  Client client(upstream.loop.io, {});
  const Origin origin = upstream.origin();
  Server proxy(upstream.loop.io, options, [&client, &origin](Request& request, Response& response) -> asio::awaitable<void> {
    const ClientTimeouts timeouts;
    auto answer = co_await client.request(origin, request.method, request.target, {}, request.body, timeouts);
    REQUIRE(answer);
    Result<void> written = co_await response.start((*answer)->status(), {});
    while (written) {
      Result<std::string_view> piece = co_await (*answer)->read();
      REQUIRE(piece);
      if (piece->empty()) break;
      written = co_await response.write(*piece);
    }
    if (written) written = co_await response.finish("");
    CHECK(written);
  });
  const auto port = proxy.listen("127.0.0.1:0");
  REQUIRE(port);
  Client caller(upstream.loop.io, {});
  for (int i = 0; i < 3; ++i) {
    const Answer answer = upstream.loop.run(fetch(caller, Origin{false, "127.0.0.1", *port, ""}, "POST", "/x", large));
    REQUIRE_FALSE(answer.error);
    CHECK(answer.body.size() == large.size() + 8);
    CHECK(answer.body == "POST /x " + large);
  }
  CHECK(proxy.counters().connections_accepted == 1);
  CHECK(upstream.server->counters().connections_accepted == 1);
  proxy.close();
  CHECK(upstream.loop.run_until([&proxy] { return proxy.counters().connections_open == 0; }));
}

TEST_CASE("a client's loop can end in the middle of requests", "[http][client]") {
  auto loop = std::make_unique<Loop>();
  auto client = std::make_unique<Client>(loop->io, ClientOptions{});
  Tcp::acceptor acceptor(loop->io, Tcp::endpoint(asio::ip::make_address("127.0.0.1"), 0));
  const Origin origin{false, "127.0.0.1", acceptor.local_endpoint().port(), ""};
  for (int i = 0; i < 3; ++i) asio::co_spawn(loop->io, fetch(*client, origin, "GET", "/", ""), asio::detached);
  asio::co_spawn(loop->io, fetch(*client, Origin{false, "localhost", origin.port, ""}, "GET", "/", ""), asio::detached);
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

}  // namespace outlast::http::test
