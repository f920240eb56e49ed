#include <catch2/catch.hpp>

#include "apps/outlast/node_access.hpp"
#include "apps/outlast/terminal.hpp"
#include "apps/outlast/time_argument.hpp"

namespace terminal_test {

using outlast::apps::csv_line;
using outlast::apps::parse_time_argument;
using outlast::apps::printable;
using outlast::apps::Table;
using outlast::apps::url_encoded;
using outlast::apps::utc_time;

namespace {
constexpr std::int64_t now_ms = 1'793'534'400'123;  // 2026-11-01T12:00:00.123Z
}

TEST_CASE("an age counts back from now", "[cli]") {
  CHECK(parse_time_argument("90s", now_ms) == now_ms - 90'000);
  CHECK(parse_time_argument("30m", now_ms) == now_ms - 1'800'000);
  CHECK(parse_time_argument("24h", now_ms) == now_ms - 86'400'000);
  CHECK(parse_time_argument("7d", now_ms) == now_ms - 7 * 86'400'000LL);
  CHECK(parse_time_argument("2w", now_ms) == now_ms - 14 * 86'400'000LL);
  CHECK(parse_time_argument("0s", now_ms) == now_ms);
}

TEST_CASE("a date is its start in UTC, and a time of day is taken to the second", "[cli]") {
  CHECK(parse_time_argument("1970-01-01", now_ms) == 0);
  CHECK(parse_time_argument("2026-11-01", now_ms) == 1'793'491'200'000);
  CHECK(parse_time_argument("2026-11-01T12:00", now_ms) == 1'793'534'400'000);
  CHECK(parse_time_argument("2026-11-01T12:00:05Z", now_ms) == 1'793'534'405'000);
  CHECK(parse_time_argument("2026-11-01 12:00:05", now_ms) == 1'793'534'405'000);
  CHECK(parse_time_argument("2024-02-29", now_ms) == 1'709'164'800'000);
}

TEST_CASE("what is neither an age nor a date is refused", "[cli]") {
  for (const char* text : {"",
                           "h",
                           "24",
                           "24x",
                           "-1h",
                           "1.5h",
                           "24hh",
                           "99999999h",
                           "yesterday",
                           "2026",
                           "2026-11",
                           "2026-13-01",
                           "2026-02-29",
                           "2026-11-31",
                           "2026-11-01T",
                           "2026-11-01T25:00",
                           "2026-11-01T12:60",
                           "2026-11-01T12:00:60",
                           "2026-11-01T12:00:00+01:00",
                           "26-11-01",
                           "2026-11-01x"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_time_argument(text, now_ms));
  }
}

TEST_CASE("a time is printed as UTC", "[cli]") {
  CHECK(utc_time(now_ms) == "2026-11-01T12:00:00Z");
  CHECK(utc_time(0) == "1970-01-01T00:00:00Z");
  CHECK(utc_time(-1) == "1969-12-31T23:59:59Z");
}

TEST_CASE("columns are as wide as their widest cell, numbers to the right", "[cli]") {
  Table table({{"NAME"}, {"N", Table::Align::right}, {"NOTE"}});
  table.add({"größe", "5", ""});
  table.add({"a", "12345", "x\ny"});
  CHECK(table.text() ==
        "NAME       N  NOTE\n"
        "größe      5\n"
        "a      12345  x?y\n");
}

TEST_CASE("control characters of other people do not reach the terminal", "[cli]") {
  CHECK(printable("a\x1b[31mb\x7f\n") == "a?[31mb??");
  CHECK(printable("a\n\tb\r", true) == "a\n\tb?");
  CHECK(printable("\xc2\x9b"
                  "31m é") == "?31m é");
}

TEST_CASE("CSV quotes what would break a line", "[cli]") {
  CHECK(csv_line({"a", "b c", "", "d,e", "f\"g", "h\ni"}) ==
        "a,b c,,\"d,e\",\"f\"\"g\",\"h\ni\"\r\n");
}

TEST_CASE("a value in a URL is encoded byte by byte", "[cli]") {
  CHECK(url_encoded("key_a-b.c~1") == "key_a-b.c~1");
  CHECK(url_encoded("a/b?c&d=é ") == "a%2Fb%3Fc%26d%3D%C3%A9%20");
}

}  // namespace terminal_test
