#include <catch2/catch.hpp>

#include "http/client.hpp"

namespace outlast::http::test::origin_test {

TEST_CASE("a base URL is taken apart", "[http][origin]") {
  struct Case {
    const char* url;
    Origin origin;
  };
  for (const Case& one : {
           Case{"http://localhost", {false, "localhost", 80, ""}},
           Case{"https://api.example.com", {true, "api.example.com", 443, ""}},
           Case{"https://api.example.com/", {true, "api.example.com", 443, ""}},
           Case{"https://api.example.com:8443/v1/", {true, "api.example.com", 8443, "/v1"}},
           Case{"http://127.0.0.1:9001/v1", {false, "127.0.0.1", 9001, "/v1"}},
           Case{"http://[::1]:80/a/b", {false, "::1", 80, "/a/b"}},
           Case{"https://[2001:db8::1]", {true, "2001:db8::1", 443, ""}},
       }) {
    INFO(one.url);
    const auto origin = Origin::parse(one.url);
    REQUIRE(origin);
    CHECK(*origin == one.origin);
  }
}

TEST_CASE("a base URL that means something else is refused, without showing credentials",
          "[http][origin]") {
  for (const char* url : {"",
                          "localhost",
                          "ftp://a",
                          "HTTP//a",
                          "http://",
                          "http:///v1",
                          "http://a:",
                          "http://a:0",
                          "http://a:65536",
                          "http://a:8o",
                          "http://a:-1",
                          "http://a?b",
                          "http://a/#b",
                          "http://a/b?c",
                          "http://a b",
                          "http://a/b c",
                          "http://[::1",
                          "http://[x]",
                          "http://[::1]x",
                          "http://a/\n",
                          "http://a\\b",
                          "http://::1"}) {
    INFO(url);
    const auto origin = Origin::parse(url);
    REQUIRE_FALSE(origin);
    CHECK(is(origin.error(), HttpError::malformed));
    CHECK(origin.error().message.find("expected http://HOST") != std::string::npos);
  }
  const auto origin = Origin::parse("https://user:secret@host/v1");
  REQUIRE_FALSE(origin);
  CHECK(origin.error().message.find("secret") == std::string::npos);
  CHECK(origin.error().message.find("credentials") != std::string::npos);
}

}  // namespace outlast::http::test::origin_test
