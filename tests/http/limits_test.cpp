// Limits on sizes, times and connections, each with its own answer.
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test::limits_test {
namespace {

ServerLimits short_times() {
  ServerLimits limits;
  limits.head_timeout_ms = 50;
  limits.body_timeout_ms = 50;
  limits.idle_timeout_ms = 50;
  limits.write_stall_timeout_ms = 50;
  return limits;
}

}  // namespace

TEST_CASE("a head over the limit is answered 431", "[http][limits]") {
  ServerLimits limits;
  limits.head_bytes_max = 1000;
  ServerFixture fixture(echo, limits);
  const std::string frame = get("/", "X: \r\n");
  RawPeer fits(fixture.loop, fixture.port);
  fits.send(get("/", "X: " + std::string(1000 - frame.size(), 'x') + "\r\n"));
  CHECK(fits.wait_for("GET / "));
  RawPeer too_large(fixture.loop, fixture.port);
  too_large.send(get("/", "X: " + std::string(1001 - frame.size(), 'x') + "\r\n"));
  CHECK(too_large.read_all().starts_with("HTTP/1.1 431 "));
  RawPeer endless(fixture.loop, fixture.port);
  endless.send("GET / HTTP/1.1\r\nHost: test\r\nX: " + std::string(2000, 'x'));
  CHECK(endless.read_all().starts_with("HTTP/1.1 431 "));
}

TEST_CASE("a head may be larger than the first buffer", "[http][limits]") {
  ServerLimits limits;
  limits.head_bytes_max = 64 * 1024;
  ServerFixture fixture(echo, limits);
  RawPeer peer(fixture.loop, fixture.port);
  peer.send(get("/", "X: " + std::string(60'000, 'x') + "\r\n") + post("after"));
  CHECK(peer.wait_for("POST / after"));
}

TEST_CASE("a body over the limit is answered 413, before it is read where its length says so",
          "[http][limits]") {
  ServerLimits limits;
  limits.body_bytes_max = 1000;
  ServerFixture fixture(echo, limits);
  RawPeer fits(fixture.loop, fixture.port);
  fits.send(post(std::string(1000, 'x')));
  CHECK(fits.wait_for("xxx"));
  RawPeer declared(fixture.loop, fixture.port);
  declared.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n");
  CHECK(declared.wait_for("HTTP/1.1 413 "));
  RawPeer sent(fixture.loop, fixture.port);
  sent.send(post(std::string(200'000, 'x')));
  CHECK(sent.read_all().starts_with("HTTP/1.1 413 "));
  CHECK_FALSE(sent.was_reset());
  for (const char* chunks : {"3e9\r\n", "1f4\r\n", "ffffffffffffff\r\n"}) {
    RawPeer chunked(fixture.loop, fixture.port);
    chunked.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; ++i) {
      chunked.send(chunks + std::string(i < 2 ? 500 : 1, 'x') +
                   (std::string_view(chunks) == "1f4\r\n" ? "\r\n" : ""));
      if (std::string_view(chunks) != "1f4\r\n") chunked.send(std::string(1001, 'x'));
    }
    CHECK(chunked.read_all().starts_with("HTTP/1.1 413 "));
  }
}

TEST_CASE("a slow head or body is answered 408, an idle connection closed", "[http][limits]") {
  ServerFixture fixture(echo, short_times());
  RawPeer slow_head(fixture.loop, fixture.port);
  slow_head.send("GET / HTTP/1.1\r\nHo");
  const std::string head_answer = slow_head.read_all();
  CHECK(head_answer.starts_with("HTTP/1.1 408 "));
  CHECK(head_answer.find("head did not arrive") != std::string::npos);

  for (const char* start :
       {"Content-Length: 50\r\n\r\nhello", "Content-Length: 100000\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel"}) {
    RawPeer slow_body(fixture.loop, fixture.port);
    slow_body.send(std::string("POST / HTTP/1.1\r\nHost: test\r\n") + start);
    const std::string answer = slow_body.read_all();
    CHECK(answer.starts_with("HTTP/1.1 408 "));
    CHECK(answer.find("body did not arrive") != std::string::npos);
  }

  RawPeer idle(fixture.loop, fixture.port);
  idle.send(get());
  CHECK(idle.read_all().ends_with("GET / "));
  RawPeer silent(fixture.loop, fixture.port);
  CHECK(silent.read_all().empty());
}

TEST_CASE("a caller that sends a byte now and then does not stretch the time for a head",
          "[http][limits]") {
  ServerLimits limits = short_times();
  limits.head_timeout_ms = 200;
  ServerFixture fixture(echo, limits);
  RawPeer peer(fixture.loop, fixture.port);
  peer.send("GET / HTTP/1.1\r\nX: ");
  auto next_byte = std::chrono::steady_clock::now();
  const bool answered = fixture.loop.run_until([&peer, &next_byte] {
    const auto now = std::chrono::steady_clock::now();
    if (peer.received().empty() && !peer.closed() && now >= next_byte) {
      peer.send("x");
      next_byte = now + std::chrono::milliseconds(5);  // seldom enough for the head to stay within its size
    }
    return peer.closed();
  });
  REQUIRE(answered);
  CHECK(peer.received().starts_with("HTTP/1.1 408 "));
}

TEST_CASE("a caller that takes no bytes loses its connection", "[http][limits]") {
  std::optional<Error> seen;
  bool streams = false;
  ServerLimits limits;
  limits.write_stall_timeout_ms = 150;
  ServerFixture fixture(
      [&seen, &streams](Request&, Response& response) -> asio::awaitable<void> {
        const std::string large(30'000'000, 'x');
        Result<void> sent;
        if (streams) {
          sent = co_await response.start(200, {});
          while (sent) sent = co_await response.write(std::string_view(large).substr(0, 100'000));
        } else {
          sent = co_await response.send(200, {}, large);
        }
        if (!sent) seen = sent.error();
      },
      limits);
  for (const bool streaming : {false, true}) {
    seen.reset();
    streams = streaming;
    RawPeer peer(fixture.loop, fixture.port);
    peer.stop_receiving();
    peer.send(get());
    REQUIRE(fixture.loop.run_until([&seen] { return seen.has_value(); }));
    CHECK(is(*seen, HttpError::write_stalled));
    REQUIRE(fixture.loop.run_until(
        [&fixture] { return fixture.server->counters().connections_open == 0; }));
  }
}

TEST_CASE("a large answer to a slow caller arrives whole", "[http][limits]") {
  std::string large(8'000'000, ' ');
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>('a' + i % 23);
  ServerFixture fixture([&large](Request&, Response& response) -> asio::awaitable<void> {
    Result<void> sent = co_await response.start(200, {});
    if (sent) sent = co_await response.write(std::string_view(large).substr(0, 5'000'000));
    if (sent) sent = co_await response.finish(std::string_view(large).substr(5'000'000));
    CHECK(sent);
  });
  RawPeer peer(fixture.loop, fixture.port);
  peer.send("GET / HTTP/1.0\r\n\r\n");
  const std::string answer = peer.read_all();
  CHECK(answer.size() > large.size());
  CHECK(answer.ends_with(large));
}

TEST_CASE("one connection more than the limit is answered 503", "[http][limits]") {
  ServerLimits limits;
  limits.connections_max = 2;
  ServerFixture fixture(echo, limits);
  RawPeer first(fixture.loop, fixture.port);
  first.send(get("/first"));
  REQUIRE(first.wait_for("GET /first "));
  {
    RawPeer second(fixture.loop, fixture.port);
    second.send(get("/second"));
    REQUIRE(second.wait_for("GET /second "));
    RawPeer third(fixture.loop, fixture.port);
    third.send(get("/third"));
    const std::string answer = third.read_all();
    CHECK(answer.starts_with("HTTP/1.1 503 "));
    CHECK(answer.find("{\"status\":503") != std::string::npos);
    CHECK(fixture.server->counters().connections_refused == 1);
  }
  REQUIRE(fixture.loop.run_until(
      [&fixture] { return fixture.server->counters().connections_open == 1; }));
  RawPeer again(fixture.loop, fixture.port);
  again.send(get("/again"));
  CHECK(again.wait_for("GET /again "));
}

}  // namespace outlast::http::test::limits_test
