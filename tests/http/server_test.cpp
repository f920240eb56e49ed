// Requests and answers of one connection.
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test::server_test {
namespace {

asio::awaitable<void> stream_three(Request&, Response& response) {
  const HeaderField type{"Content-Type", "text/event-stream"};
  Result<void> done = co_await response.start(200, std::span(&type, 1));
  if (done) done = co_await response.write("one ");
  if (done) done = co_await response.write("");
  if (done) done = co_await response.write("two ");
  if (done) done = co_await response.finish("three");
}

std::string chunked_request(std::string_view body, std::size_t chunk_bytes) {
  std::string text = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
  char size[32];
  while (!body.empty()) {
    const auto chunk = body.substr(0, chunk_bytes);
    std::snprintf(size, sizeof(size), "%zx\r\n", chunk.size());
    text.append(size).append(chunk).append("\r\n");
    body.remove_prefix(chunk.size());
  }
  return text + "0\r\n\r\n";
}
}  // namespace

TEST_CASE("a connection serves request after request", "[http][server]") {
  ServerFixture fixture;
  RawPeer peer(fixture.loop, fixture.port);
  for (int i = 0; i < 50; ++i) {
    peer.forget();
    const std::string path = "/" + std::to_string(i);
    peer.send(get(path));
    REQUIRE(peer.wait_for("GET " + path + " "));
    CHECK(peer.received().find("Content-Length: " + std::to_string(path.size() + 5) + "\r\n") !=
          std::string::npos);
    CHECK(peer.received().find("Connection:") == std::string::npos);
  }
  CHECK(fixture.server->counters().requests == 50);
  CHECK(fixture.server->counters().connections_accepted == 1);
}

TEST_CASE("pipelined requests are answered in their order", "[http][server]") {
  ServerFixture fixture;
  RawPeer peer(fixture.loop, fixture.port);
  std::string requests;
  for (int i = 0; i < 500; ++i)
    requests += post("body" + std::to_string(i), "X: " + std::string(40, 'x') + "\r\n");
  peer.send(requests);
  REQUIRE(peer.wait_for("body499"));
  std::size_t at = 0;
  for (int i = 0; i < 500; ++i) {
    at = peer.received().find("POST / body" + std::to_string(i), at);
    REQUIRE(at != std::string::npos);
  }
  CHECK(fixture.server->counters().requests == 500);
}

TEST_CASE("a request may be split at every byte", "[http][server]") {
  ServerFixture fixture;
  const std::string plain = post("hello") + get("/end");
  const std::string chunked = chunked_request("hello world", 4) + get("/end");
  for (const std::string& text : {plain, chunked}) {
    for (std::size_t i = 1; i < text.size(); ++i) {
      RawPeer peer(fixture.loop, fixture.port);
      peer.send(std::string_view(text).substr(0, i));
      fixture.loop.io.restart();
      fixture.loop.io.poll();
      peer.send(std::string_view(text).substr(i));
      REQUIRE(peer.wait_for("GET /end "));
      REQUIRE(peer.received().find("POST / hello") != std::string::npos);
    }
    RawPeer peer(fixture.loop, fixture.port);
    peer.send_slowly(text);
    CHECK(peer.wait_for("GET /end "));
  }
}

TEST_CASE("bodies of any size arrive whole, with padding behind them", "[http][server]") {
  std::string seen;
  ServerFixture fixture([&seen](Request& request, Response& response) -> asio::awaitable<void> {
    seen = request.body;
    unsigned sum = 0;
    for (std::size_t i = 0; i < body_padding_bytes; ++i) {
      sum += static_cast<unsigned char>(request.body.data()[request.body.size() + i]);
    }
    const std::string answer = "sum " + std::to_string(sum);
    Result<void> sent = co_await response.send(200, {}, answer);
    (void)sent;
  });
  for (const std::size_t size :
       {0, 1, 100, 4'096, 16'000, 16'330, 16'384, 20'000, 100'000, 3'000'000}) {
    std::string body(size, ' ');
    for (std::size_t i = 0; i < size; ++i) body[i] = static_cast<char>('a' + i * 7 % 26);
    for (const auto& text :
         {post(body), chunked_request(body, 1000), chunked_request(body, 100'000)}) {
      INFO(size);
      RawPeer peer(fixture.loop, fixture.port);
      // The rest is written while the server reads: both run in this thread, so in pieces the
      // kernel can hold.
      for (std::string_view rest = text; !rest.empty();) {
        const auto piece = rest.substr(0, 50'000);
        peer.send(piece);
        rest.remove_prefix(piece.size());
        fixture.loop.io.restart();
        fixture.loop.io.poll();
      }
      REQUIRE(peer.wait_for("sum "));
      CHECK(seen == body);
      peer.forget();
      peer.send(get());
      CHECK(peer.wait_for("sum "));
    }
  }
}

TEST_CASE("a request's fields are found in any case", "[http][server]") {
  std::string found;
  ServerFixture fixture([&found](Request& request, Response& response) -> asio::awaitable<void> {
    found.append(request.header("x-TEST")).append("|").append(request.header("absent")).append("|");
    found.append(request.path())
        .append("|")
        .append(request.query())
        .append("|")
        .append(request.peer);
    Result<void> sent = co_await response.send(204, {}, "");
    (void)sent;
  });
  RawPeer peer(fixture.loop, fixture.port);
  peer.send(get("/a/b?c=d", "X-Test: first\r\nX-Test: second\r\n"));
  REQUIRE(peer.wait_for("HTTP/1.1 204 No Content\r\n"));
  CHECK(found == "first||/a/b|c=d|127.0.0.1");
  CHECK(peer.received().find("Content-Length") == std::string::npos);
}

TEST_CASE("a streamed answer is chunked, and plain until the close for HTTP/1.0",
          "[http][server]") {
  ServerFixture fixture(stream_three);
  RawPeer modern(fixture.loop, fixture.port);
  modern.send(get());
  REQUIRE(modern.wait_for("0\r\n\r\n"));
  CHECK(modern.received().find("Transfer-Encoding: chunked\r\n") != std::string::npos);
  CHECK(modern.received().find("\r\n\r\n4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n") !=
        std::string::npos);
  CHECK_FALSE(modern.closed());

  RawPeer old(fixture.loop, fixture.port);
  old.send("GET / HTTP/1.0\r\n\r\n");
  const std::string answer = old.read_all();
  CHECK(answer.find("Connection: close\r\n") != std::string::npos);
  CHECK(answer.find("Transfer-Encoding") == std::string::npos);
  CHECK(answer.ends_with("\r\n\r\none two three"));
  CHECK_FALSE(old.was_reset());
}

TEST_CASE("the connection closes when the caller asks for it", "[http][server]") {
  ServerFixture fixture;
  for (const std::string& text :
       {get("/", "Connection: close\r\n"), std::string("GET / HTTP/1.0\r\n\r\n")}) {
    RawPeer peer(fixture.loop, fixture.port);
    peer.send(text);
    const std::string answer = peer.read_all();
    CHECK(answer.find("Connection: close\r\n") != std::string::npos);
    CHECK(answer.ends_with("GET / "));
  }
  RawPeer kept(fixture.loop, fixture.port);
  kept.send("GET /kept HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  REQUIRE(kept.wait_for("GET /kept "));
  CHECK(kept.received().find("Connection: keep-alive\r\n") != std::string::npos);
  kept.send("GET /again HTTP/1.0\r\n\r\n");
  CHECK(kept.read_all().find("GET /again ") != std::string::npos);
}

TEST_CASE("a HEAD request gets a head only", "[http][server]") {
  ServerFixture whole;
  RawPeer peer(whole.loop, whole.port);
  peer.send("HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n" + get("/b"));
  REQUIRE(peer.wait_for("GET /b "));
  CHECK(peer.received().find("Content-Length: 8\r\n") != std::string::npos);
  CHECK(peer.received().find("HEAD /a") == std::string::npos);

  ServerFixture streamed(stream_three);
  RawPeer second(streamed.loop, streamed.port);
  second.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
  REQUIRE(second.wait_for("\r\n\r\n"));
  second.send(get());
  REQUIRE(second.wait_for("0\r\n\r\n"));
  CHECK(count_of(second.received(), "three") == 1);
}

TEST_CASE("a caller that expects 100-continue gets it once its body is wanted", "[http][server]") {
  ServerLimits limits;
  limits.body_bytes_max = 100;
  ServerFixture fixture(echo, limits);
  RawPeer peer(fixture.loop, fixture.port);
  peer.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-Continue\r\n\r\n");
  REQUIRE(peer.wait_for("HTTP/1.1 100 Continue\r\n\r\n"));
  peer.send("hello");
  REQUIRE(peer.wait_for("POST / hello"));

  RawPeer too_large(fixture.loop, fixture.port);
  too_large.send(
      "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n");
  CHECK(too_large.read_all().starts_with("HTTP/1.1 413 "));

  RawPeer impatient(fixture.loop, fixture.port);
  impatient.send(
      "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
  REQUIRE(impatient.wait_for("POST / hello"));
  CHECK(impatient.received().find("100 Continue") == std::string::npos);
}

TEST_CASE("line ends inside of a value cannot add a field", "[http][server]") {
  ServerFixture fixture([](Request&, Response& response) -> asio::awaitable<void> {
    const HeaderField field{"X-Text", "a\r\nSet-Cookie: b"};
    Result<void> sent = co_await response.send(200, std::span(&field, 1), "");
    (void)sent;
  });
  RawPeer peer(fixture.loop, fixture.port);
  peer.send(get());
  REQUIRE(peer.wait_for("Content-Length: 0\r\n\r\n"));
  CHECK(peer.received().find("X-Text: a  Set-Cookie: b\r\n") != std::string::npos);
}

}  // namespace outlast::http::test::server_test
