// Requests that two readers could frame differently are refused, and the connection is closed.
#include "tests/http/http_fixture.hpp"

namespace outlast::http::test::framing_test {
namespace {

struct Attack {
  const char* name;
  std::string bytes;
  unsigned status;
};

std::string request_with(const std::string& fields) {
  return "POST / HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n";
}

std::vector<Attack> attacks() {
  using namespace std::string_literals;
  std::string many_fields;
  for (int i = 0; i < 200; ++i) many_fields += "a: b\r\n";
  return {
      {"both lengths",
       request_with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n") + "0\r\n\r\n", 400},
      {"both lengths, the other way round",
       request_with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n") + "0\r\n\r\n", 400},
      {"length repeated, same",
       request_with("Content-Length: 5\r\nContent-Length: 5\r\n") + "hello", 400},
      {"length repeated, different",
       request_with("Content-Length: 5\r\nContent-Length: 6\r\n") + "hello", 400},
      {"length as a list", request_with("Content-Length: 5, 5\r\n") + "hello", 400},
      {"length with a plus", request_with("Content-Length: +5\r\n") + "hello", 400},
      {"length negative", request_with("Content-Length: -5\r\n") + "hello", 400},
      {"length in hexadecimal", request_with("Content-Length: 0x5\r\n") + "hello", 400},
      {"length empty", request_with("Content-Length: \r\n"), 400},
      {"length that overflows", request_with("Content-Length: 18446744073709551621\r\n") + "hello",
       400},
      {"length with a space inside", request_with("Content-Length: 5 5\r\n") + "hello", 400},
      {"coding repeated",
       request_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400},
      {"coding identity", request_with("Transfer-Encoding: identity\r\n"), 400},
      {"coding gzip, chunked", request_with("Transfer-Encoding: gzip, chunked\r\n"), 400},
      {"coding chunked, identity", request_with("Transfer-Encoding: chunked, identity\r\n"), 400},
      {"coding xchunked", request_with("Transfer-Encoding: xchunked\r\n"), 400},
      {"coding with a vertical tab", request_with("Transfer-Encoding: \vchunked\r\n"), 400},
      {"HTTP/1.0 with a coding",
       "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
      {"bare LF after the start line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
      {"bare LF in the fields", "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400},
      {"bare LF only", "GET / HTTP/1.1\nHost: a\n\n", 400},
      {"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
      {"bare CR in a value", "GET / HTTP/1.1\r\nHost: a\r\nX: b\rY: c\r\n\r\n", 400},
      {"bare CR after the start line", "GET / HTTP/1.1\rHost: a\r\n\r\n", 505},
      {"folded field", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 400},
      {"folded by a tab", "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", 400},
      {"folded before the first field", "GET / HTTP/1.1\r\n X: b\r\nHost: a\r\n\r\n", 400},
      {"space before the colon", request_with("Content-Length : 5\r\n") + "hello", 400},
      {"tab before the colon", request_with("Content-Length\t: 5\r\n") + "hello", 400},
      {"space in a name", request_with("X Y: 5\r\n"), 400},
      {"empty name", request_with(": 5\r\n"), 400},
      {"no colon", request_with("garbage\r\n"), 400},
      {"NUL in a name", request_with("X\0Y: b\r\n"s), 400},
      {"NUL in a value", request_with("X: a\0b\r\n"s), 400},
      {"control byte in a value", request_with("X: a\x01\x62\r\n"), 400},
      {"DEL in a value", request_with("X: a\x7f\r\n"), 400},
      {"NUL in the target", "GET /\0x HTTP/1.1\r\nHost: a\r\n\r\n"s, 400},
      {"tab between method and target", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two spaces in the start line", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 505},
      {"no version", "GET /\r\nHost: a\r\n\r\n", 400},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
      {"HTTP/0.9", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505},
      {"HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505},
      {"http in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", 505},
      {"no Host", "GET / HTTP/1.1\r\nX: a\r\n\r\n", 400},
      {"Host repeated", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
      {"Host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
      {"Host as a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400},
      {"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405},
      {"target without a slash", "GET a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"star with GET", "GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"another scheme", "GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"a TLS handshake", "\x16\x03\x01\x02\x01"s, 400},
      {"unknown expectation", request_with("Expect: 200-ok\r\n"), 417},
      {"too many fields", "GET / HTTP/1.1\r\nHost: a\r\n" + many_fields + "\r\n", 431},
      {"chunk size with a plus",
       request_with("Transfer-Encoding: chunked\r\n") + "+5\r\nhello\r\n0\r\n\r\n", 400},
      {"chunk size with 0x",
       request_with("Transfer-Encoding: chunked\r\n") + "0x5\r\nhello\r\n0\r\n\r\n", 400},
      {"chunk size empty",
       request_with("Transfer-Encoding: chunked\r\n") + "\r\nhello\r\n0\r\n\r\n", 400},
      {"chunk size with a space",
       request_with("Transfer-Encoding: chunked\r\n") + "5 \r\nhello\r\n0\r\n\r\n", 400},
      {"chunk size that overflows",
       request_with("Transfer-Encoding: chunked\r\n") + "10000000000000005\r\nhello\r\n0\r\n\r\n",
       400},
      {"chunk line ended by LF",
       request_with("Transfer-Encoding: chunked\r\n") + "5\nhello\r\n0\r\n\r\n", 400},
      {"chunk data ended by LF",
       request_with("Transfer-Encoding: chunked\r\n") + "5\r\nhello\n0\r\n\r\n", 400},
      {"chunk longer than its size",
       request_with("Transfer-Encoding: chunked\r\n") + "4\r\nhello\r\n0\r\n\r\n", 400},
      {"LF in a chunk extension",
       request_with("Transfer-Encoding: chunked\r\n") + "5;a\nb\r\nhello\r\n0\r\n\r\n", 400},
      {"chunk extension without end",
       request_with("Transfer-Encoding: chunked\r\n") + "5;" + std::string(2000, 'a'), 400},
      {"trailer without end",
       request_with("Transfer-Encoding: chunked\r\n") + "0\r\na: " + std::string(9000, 'a'), 400},
      {"folded trailer", request_with("Transfer-Encoding: chunked\r\n") + "0\r\na: b\r\n c\r\n\r\n",
       400},
  };
}

}  // namespace

TEST_CASE("ambiguous or broken framing is refused and the connection closed", "[http][framing]") {
  unsigned handled = 0;
  ServerFixture fixture([&handled](Request& request, Response& response) {
    ++handled;
    return echo(request, response);
  });
  for (const Attack& attack : attacks()) {
    DYNAMIC_SECTION(attack.name) {
      RawPeer peer(fixture.loop, fixture.port);
      // What follows must never be taken for a second request.
      peer.send(attack.bytes + get("/smuggled"));
      const std::string answer = peer.read_all();
      CHECK(answer.starts_with("HTTP/1.1 " + std::to_string(attack.status) + " "));
      CHECK(answer.find("Connection: close\r\n") != std::string::npos);
      CHECK(answer.find("Content-Type: application/json\r\n") != std::string::npos);
      CHECK(answer.find("{\"status\":" + std::to_string(attack.status)) != std::string::npos);
      CHECK(count_of(answer, "Date: ") == 1);
      CHECK(answer.find("/smuggled") == std::string::npos);
      CHECK(handled == 0);
      CHECK(fixture.server->counters().protocol_errors == 1);
    }
  }
}

TEST_CASE("broken framing is refused wherever the bytes are split", "[http][framing]") {
  ServerFixture fixture;
  for (const Attack& attack : attacks()) {
    if (attack.bytes.size() > 200) continue;
    INFO(attack.name);
    RawPeer peer(fixture.loop, fixture.port);
    peer.send_slowly(attack.bytes);
    const std::string answer = peer.read_all();
    CHECK(answer.starts_with("HTTP/1.1 " + std::to_string(attack.status) + " "));
  }
}

TEST_CASE("unusual but clear framing is accepted", "[http][framing]") {
  struct Case {
    const char* name;
    std::string bytes;
    std::string expected;
  };
  const std::vector<Case> cases = {
      {"one empty line first", "\r\n" + get("/a"), "GET /a "},
      {"absolute form", "GET http://test/a?b=c HTTP/1.1\r\nHost: test\r\n\r\n", "GET /a?b=c "},
      {"absolute form without a path", "GET http://test HTTP/1.1\r\nHost: test\r\n\r\n", "GET / "},
      {"star", "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n", "OPTIONS * "},
      {"space around a value", "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: \t 2 \t\r\n\r\nab",
       "POST / ab"},
      {"no space before a value", "POST / HTTP/1.1\r\nHost:test\r\nContent-Length:2\r\n\r\nab",
       "POST / ab"},
      {"names in any case", "POST / HTTP/1.1\r\nhOsT: test\r\ncontent-LENGTH: 2\r\n\r\nab",
       "POST / ab"},
      {"Chunked in any case",
       "POST / HTTP/1.1\r\nHost: test\r\ntransfer-encoding: CHUNKED\r\n\r\n2\r\nab\r\n0\r\n\r\n",
       "POST / ab"},
      {"chunk sizes with leading zeros",
       "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
       "0002\r\nab\r\n000\r\n\r\n",
       "POST / ab"},
      {"extensions and trailers",
       "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
       "2;x=\"y\"\r\nab\r\n0;z\r\na: b\r\nc: d\r\n\r\n",
       "POST / ab"},
      {"an offer to upgrade", get("/a", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"),
       "GET /a "},
      {"bytes above 127 in a value", get("/a", "X: \xc3\xa4\r\n"), "GET /a "},
  };
  for (const Case& one : cases) {
    DYNAMIC_SECTION(one.name) {
      ServerFixture fixture;
      RawPeer peer(fixture.loop, fixture.port);
      peer.send(one.bytes + get("/next"));
      CHECK(peer.wait_for("GET /next "));
      CHECK(count_of(peer.received(), "HTTP/1.1 200 OK\r\n") == 2);
      CHECK(peer.received().find("\r\n\r\n" + one.expected) != std::string::npos);
    }
  }
}

}  // namespace outlast::http::test::framing_test
