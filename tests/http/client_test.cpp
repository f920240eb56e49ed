// Requests to upstreams and their answers, of upstreams that break the rules too.
#include "tests/http/upstream_fixture.hpp"

namespace outlast::http::test::client_test {

TEST_CASE("a request reaches the upstream as it was asked for", "[http][client]") {
  Upstream upstream;
  Origin origin = upstream.listener.origin();
  origin.path_prefix = "/v1";
  const HeaderField fields[] = {{"Authorization", "Bearer x"}, {"X-Odd", "a\r\nX-Injected: b"}};
  std::optional<unsigned> status;
  const ClientTimeouts timeouts;
  asio::co_spawn(
      upstream.loop.io,
      [](Upstream& to, const Origin& at, std::span<const HeaderField> with,
         const ClientTimeouts& within, std::optional<unsigned>& out) -> asio::awaitable<void> {
        auto response =
            co_await to.client.request(at, "POST", "/chat?x=y", with, "{\"a\":1}", within);
        REQUIRE(response);
        CHECK((*response)->header("CONTENT-type") == "text/plain");
        CHECK((*response)->header("absent").empty());
        out = (*response)->status();
      }(upstream, origin, fields, timeouts, status),
      asio::detached);
  RawPeer& peer = upstream.listener.peer(0);
  REQUIRE(peer.wait_for("{\"a\":1}"));
  CHECK(
      peer.received() ==
      "POST /v1/chat?x=y HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(upstream.listener.port()) +
          "\r\nAuthorization: Bearer x\r\nX-Odd: a  X-Injected: b\r\n"
            "Content-Length: 7\r\n\r\n{\"a\":1}");
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
      {"length", "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", "hello world", false,
       true},
      {"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", false, true},
      {"chunked",
       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\nhello\r\n6\r\n world\r\n0\r\nA: b\r\n\r\n",
       "hello world", false, true},
      {"until close", "HTTP/1.1 200 OK\r\n\r\nhello world", "hello world", true, false},
      {"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", false, false},
      {"closing", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", "hello",
       false, false},
      {"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", false, true},
      {"after informational answers",
       "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
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
  const Answer answer =
      upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", false, {}, "HEAD");
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
  const Answer answer =
      upstream.ask("HTTP/1.1 200 OK\r\nX: " + std::string(40'000, 'x') + "\r\n\r\n", false);
  REQUIRE(answer.error);
  CHECK(is(*answer.error, HttpError::head_too_large));
}

TEST_CASE("an answer that is cut is an error and never a clean end", "[http][client]") {
  const std::vector<std::string> answers = {
      "",
      "HTTP/1.1 200 OK\r\nContent-Le",
      "HTTP/1.1 100 Continue\r\n\r\n",
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
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "GET", "/", ""),
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

TEST_CASE("pieces come as they arrive, and an end that has arrived need not be read",
          "[http][client]") {
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
                   fetch(upstream.client, upstream.listener.origin(), "POST", "/",
                         std::string(30'000'000, 'x')),
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
  Server proxy(upstream.loop.io, options,
               [&client, &origin](Request& request, Response& response) -> asio::awaitable<void> {
                 const ClientTimeouts timeouts;
                 auto answer = co_await client.request(origin, request.method, request.target, {},
                                                       request.body, timeouts);
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
    const Answer answer = upstream.loop.run(
        fetch(caller, Origin{false, "127.0.0.1", *port, ""}, "POST", "/x", large));
    REQUIRE_FALSE(answer.error);
    CHECK(answer.body.size() == large.size() + 8);
    CHECK(answer.body == "POST /x " + large);
  }
  CHECK(proxy.counters().connections_accepted == 1);
  CHECK(upstream.server->counters().connections_accepted == 1);
  proxy.close();
  CHECK(upstream.loop.run_until([&proxy] { return proxy.counters().connections_open == 0; }));
}

}  // namespace outlast::http::test::client_test
