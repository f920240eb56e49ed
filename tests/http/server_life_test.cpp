// How answers and connections end: failing handlers, callers that leave, drain, close.
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test::server_life_test {

TEST_CASE("a handler that throws or gives no answer is answered 500, or cut once begun",
          "[http][server]") {
  ServerFixture fixture([](Request& request, Response& response) -> asio::awaitable<void> {
    if (request.path() == "/throw") throw std::runtime_error("on purpose");
    if (request.path() == "/silent") co_return;
    Result<void> begun = co_await response.start(200, {});
    if (begun) begun = co_await response.write("some");
    if (request.path() == "/throw-late") throw std::runtime_error("on purpose");
  });
  for (const char* path : {"/throw", "/silent"}) {
    RawPeer peer(fixture.loop, fixture.port);
    peer.send(get(path));
    const std::string answer = peer.read_all();
    CHECK(answer.starts_with("HTTP/1.1 500 "));
    CHECK(answer.find("{\"status\":500") != std::string::npos);
  }
  for (const char* path : {"/throw-late", "/unfinished"}) {
    RawPeer peer(fixture.loop, fixture.port);
    peer.send(get(path));
    const std::string answer = peer.read_all();
    CHECK(answer.ends_with("\r\n4\r\nsome\r\n"));
  }
}

TEST_CASE("a cut answer never looks complete", "[http][server]") {
  ServerFixture fixture([](Request&, Response& response) -> asio::awaitable<void> {
    Result<void> begun = co_await response.start(200, {});
    if (begun) begun = co_await response.write("some");
    response.cut();
    Result<void> late = co_await response.write("more");
    CHECK_FALSE(late);
    CHECK(is(late.error(), HttpError::closed));
  });
  RawPeer chunked(fixture.loop, fixture.port);
  chunked.send(get());
  CHECK(chunked.read_all().ends_with("\r\n4\r\nsome\r\n"));

  // Where the end of the connection ends the body, only a reset says that this is not the end.
  RawPeer until_close(fixture.loop, fixture.port);
  until_close.send("GET / HTTP/1.0\r\n\r\n");
  REQUIRE(until_close.wait_closed());
  CHECK(until_close.was_reset());
}

TEST_CASE("the handler learns that the caller has left", "[http][server]") {
  struct Seen {
    int begun = 0;
    int left = 0;
    int ended = 0;
    bool write_failed = false;
  } seen;
  Gate* gate = nullptr;  // the fixture's
  ServerFixture fixture([&seen, &gate](Request&, Response& response) -> asio::awaitable<void> {
    response.on_disconnect([&seen, &gate] {
      ++seen.left;
      gate->open();
    });
    Result<void> begun = co_await response.start(200, {});
    if (begun) begun = co_await response.write("begun");
    ++seen.begun;
    co_await gate->wait();
    Result<void> late = co_await response.finish("end");
    seen.write_failed = !late;
    ++seen.ended;
  });
  for (const char* how : {"close", "reset", "half-close", "pipelined, then close"}) {
    INFO(how);
    seen = Seen{};
    gate = &fixture.add_gate();
    RawPeer peer(fixture.loop, fixture.port);
    peer.send(get());
    REQUIRE(peer.wait_for("begun"));
    if (std::string_view(how) == "reset") {
      peer.reset();
    } else if (std::string_view(how) == "half-close") {
      peer.half_close();
    } else {
      if (std::string_view(how) != "close") peer.send(get("/next"));
      peer.close();
    }
    const bool ended = fixture.loop.run_until([&seen] { return seen.ended == 1; });
    REQUIRE(ended);
    CHECK(seen.left == 1);
    CHECK(seen.write_failed);
    CHECK(seen.begun == 1);
  }
  // And a caller that stays is not taken for gone.
  seen = Seen{};
  gate = &fixture.add_gate();
  RawPeer peer(fixture.loop, fixture.port);
  peer.send(get());
  REQUIRE(peer.wait_for("begun"));
  asio::steady_timer later(fixture.loop.io, std::chrono::milliseconds(350));
  bool passed = false;
  later.async_wait([&passed](const boost::system::error_code&) { passed = true; });
  REQUIRE(fixture.loop.run_until([&passed] { return passed; }));
  peer.send(get("/next"));
  gate->open();
  REQUIRE(peer.wait_for("end\r\n0\r\n\r\n"));
  CHECK(seen.left == 0);
  CHECK(fixture.loop.run_until([&seen] { return seen.begun == 2; }));
  gate->open();
  CHECK(fixture.loop.run_until([&seen] { return seen.ended == 2; }));
}

TEST_CASE("a write that finds the caller gone tells that it has left", "[http][server]") {
  Gate* gate = nullptr;  // the fixture's
  int left = 0;
  std::optional<int> left_at_failure;
  ServerFixture fixture([&](Request&, Response& response) -> asio::awaitable<void> {
    response.on_disconnect([&left] { ++left; });
    (void)co_await response.start(200, {});
    (void)co_await response.write("begun");
    co_await gate->wait();
    if (!co_await response.write("more")) left_at_failure = left;
  });
  gate = &fixture.add_gate();
  RawPeer peer(fixture.loop, fixture.port);
  peer.send(get());
  REQUIRE(peer.wait_for("begun"));
  peer.reset();
  gate->open();
  REQUIRE(fixture.loop.run_until([&left_at_failure] { return left_at_failure.has_value(); }));
  CHECK(*left_at_failure == 1);
}

TEST_CASE("a connection goes on after an answer during which it was watched", "[http][server]") {
  int handled = 0;
  ServerFixture fixture([&handled](Request& request, Response& response) -> asio::awaitable<void> {
    ++handled;
    if (request.path() == "/slow") {
      asio::steady_timer pause(co_await asio::this_coro::executor, std::chrono::milliseconds(300));
      co_await pause.async_wait(asio::use_awaitable);
    }
    co_await echo(request, response);
  });
  RawPeer peer(fixture.loop, fixture.port);
  for (int i = 0; i < 3; ++i) {
    const std::string path = "/after" + std::to_string(i);
    peer.forget();
    peer.send(get("/slow"));
    REQUIRE(peer.wait_for("GET /slow "));
    peer.send(get(path));
    REQUIRE(peer.wait_for("GET " + path + " "));
    peer.send(post("body" + path));
    REQUIRE(peer.wait_for("POST / body" + path));
  }
  CHECK(handled == 9);
}

TEST_CASE("requests that are on their way when draining begins are answered", "[http][server]") {
  ServerFixture fixture;
  RawPeer kept(fixture.loop, fixture.port);
  kept.send(get("/first"));
  REQUIRE(kept.wait_for("GET /first "));
  // None of these has been read, and the second has not even been accepted.
  kept.send(get("/second"));
  RawPeer fresh(fixture.loop, fixture.port);
  fresh.send(get("/third"));
  fixture.server->drain();
  CHECK(kept.read_all().find("GET /second ") != std::string::npos);
  CHECK(fresh.read_all().find("GET /third ") != std::string::npos);
}

TEST_CASE("draining lets answers end and closes what is idle", "[http][server]") {
  Gate* gate = nullptr;  // the fixture's
  int handled = 0;
  ServerFixture fixture(
      [&gate, &handled](Request& request, Response& response) -> asio::awaitable<void> {
        ++handled;
        if (request.path() == "/slow") co_await gate->wait();
        co_await echo(request, response);
      });
  gate = &fixture.add_gate();
  RawPeer idle(fixture.loop, fixture.port);
  idle.send(get("/quick"));
  REQUIRE(idle.wait_for("GET /quick "));
  RawPeer fresh(fixture.loop, fixture.port);
  RawPeer busy(fixture.loop, fixture.port);
  busy.send(get("/slow"));
  RawPeer halfway(fixture.loop, fixture.port);
  halfway.send("GET /halfway HTTP/1.1\r\n");
  REQUIRE(fixture.loop.run_until([&handled] { return handled == 2; }));
  REQUIRE(fixture.loop.run_until(
      [&fixture] { return fixture.server->counters().connections_open == 4; }));
  fixture.loop.io.restart();
  fixture.loop.io.poll();

  fixture.server->drain();
  CHECK(idle.wait_closed());
  CHECK(fresh.wait_closed());
  CHECK_FALSE(busy.closed());
  CHECK_FALSE(halfway.closed());
  halfway.send("Host: test\r\n\r\n");
  CHECK(halfway.read_all().find("GET /halfway ") != std::string::npos);
  gate->open();
  const std::string answer = busy.read_all();
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(answer.ends_with("GET /slow "));
  CHECK(fixture.loop.run_until(
      [&fixture] { return fixture.server->counters().connections_open == 0; }));
  CHECK_THROWS(RawPeer(fixture.loop, fixture.port));
}

TEST_CASE("a server can be closed and destroyed in the middle of anything", "[http][server]") {
  Gate* gate = nullptr;  // the fixture's
  int left = 0;
  {
    ServerFixture fixture(
        [&gate, &left](Request& request, Response& response) -> asio::awaitable<void> {
          response.on_disconnect([&left] { ++left; });
          co_await gate->wait();
          co_await echo(request, response);
        });
    gate = &fixture.add_gate();
    RawPeer busy(fixture.loop, fixture.port);
    RawPeer idle(fixture.loop, fixture.port);
    busy.send(get());
    REQUIRE(
        fixture.loop.run_until([&fixture] { return fixture.server->counters().requests == 1; }));
    fixture.server->close();
    REQUIRE(busy.wait_closed());
    REQUIRE(fixture.loop.run_until([&left] { return left == 1; }));
    gate->open();
  }
  // The loop ends with requests and reads pending: nothing may leak or be used after it was freed.
  auto loop = std::make_unique<Loop>();
  std::optional<Gate> second(loop->io);
  ServerOptions options;
  options.error_body = plain_error;
  auto server =
      std::make_unique<Server>(loop->io, options, [&second](Request& request, Response& response) {
        return [](Gate& waited, Request& asked, Response& answer) -> asio::awaitable<void> {
          co_await waited.wait();
          co_await echo(asked, answer);
        }(*second, request, response);
      });
  const auto port = server->listen("127.0.0.1:0");
  REQUIRE(port);
  Tcp::socket busy(loop->io);
  Tcp::socket halfway(loop->io);
  const Tcp::endpoint endpoint(asio::ip::make_address("127.0.0.1"), *port);
  busy.connect(endpoint);
  halfway.connect(endpoint);
  asio::write(busy, asio::buffer(get()));
  asio::write(halfway, asio::buffer(std::string("GET / HT")));
  REQUIRE(loop->run_until([&server] { return server->counters().requests == 1; }));
  busy.close();
  halfway.close();
  server.reset();
  second.reset();
  loop.reset();
}

TEST_CASE("listen refuses what it cannot bind with an error that says why", "[http][server]") {
  Loop loop;
  ServerOptions options;
  options.error_body = plain_error;
  options.reuse_port = false;
  Server server(loop.io, options, echo);
  for (const char* address : {"", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                              "127.0.0.1:65536", "::1:80"}) {
    INFO(address);
    const auto bound = server.listen(address);
    REQUIRE_FALSE(bound);
    CHECK(is(bound.error(), HttpError::listen_failed));
    CHECK(bound.error().message.find("expected HOST:PORT") != std::string::npos);
  }
  CHECK_FALSE(server.listen("203.0.113.1:80"));
  const auto bound = server.listen("127.0.0.1:0");
  REQUIRE(bound);
  Server second(loop.io, options, echo);
  const auto taken = second.listen("127.0.0.1:" + std::to_string(*bound));
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message.find("127.0.0.1:" + std::to_string(*bound)) != std::string::npos);
}

}  // namespace outlast::http::test::server_life_test
