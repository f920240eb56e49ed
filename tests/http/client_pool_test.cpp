// Which connections are kept, reused, replaced and let go.
#include "tests/http/upstream_fixture.hpp"

namespace outlast::http::test::client_pool_test {

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

TEST_CASE("an idle connection that the upstream closes leaves the pool by itself",
          "[http][client]") {
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
  const Answer second =
      upstream.ask("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n", false);
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
  CHECK(fixture.loop.run_until(
      [&fixture] { return fixture.server->counters().connections_open == 0; }));
}

TEST_CASE("a kept connection that proves closed is replaced once, a new one is not",
          "[http][client]") {
  Upstream upstream;
  const std::string ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
  REQUIRE_FALSE(upstream.ask(ok, false).error);
  std::optional<Answer> got;
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
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
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
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
  asio::co_spawn(upstream.loop.io,
                 fetch(upstream.client, upstream.listener.origin(), "POST", "/", "body"),
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

}  // namespace outlast::http::test::client_pool_test
