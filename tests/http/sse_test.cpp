#include <catch2/catch.hpp>

#include <string>
#include <utility>
#include <vector>

#include "core/random.hpp"
#include "http/sse.hpp"

namespace outlast::http::test::sse_test {
namespace {

using Events = std::vector<std::pair<std::string, std::string>>;

void take_all(SseReader& reader, Events& events) {
  SseEvent event;
  while (reader.next(event)) events.emplace_back(event.event, event.data);
}

Events read_in(const std::vector<std::string_view>& pieces) {
  SseReader reader;
  Events events;
  for (const auto piece : pieces) {
    const auto fed = reader.feed(piece);
    REQUIRE(fed);
    take_all(reader, events);
  }
  return events;
}

std::string with_line_ends(std::string text, std::string_view line_end) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out.append(line_end);
    } else {
      out.push_back(c);
    }
  }
  return out;
}

const std::string stream =
    ": a comment\n\n"
    "data: {\"a\":1}\n\n"
    "event: delta\ndata: {\"b\":2}\n\n"
    "event:no space\ndata:no space\n\n"
    "id: 7\nretry: 10\ndata:  two spaces\n\n"
    "data: first\nevent: between\ndata: a second line that is longer\ndata:\ndata: fourth\n\n"
    "event: without data\n\n"
    "data\n\n"
    "data\ndata: after a line without a value\n\n"
    "unknown: field\ndata: x\n: comment inside\n\n"
    "\n\n"
    "data: [DONE]\n\n"
    "data: unfinished\n";

const Events expected = {
    {"", "{\"a\":1}"},
    {"delta", "{\"b\":2}"},
    {"no space", "no space"},
    {"", " two spaces"},
    {"between", "first\na second line that is longer\n\nfourth"},
    {"", ""},
    {"", "\nafter a line without a value"},
    {"", "x"},
    {"", "[DONE]"},
};

}  // namespace

TEST_CASE("events are read whatever the line ends and wherever the bytes are split",
          "[http][sse]") {
  for (const std::string_view line_end : {"\n", "\r\n", "\r"}) {
    for (const std::string_view mark : {"", "\xEF\xBB\xBF"}) {
      const std::string text = std::string(mark) + with_line_ends(stream, line_end);
      CHECK(read_in({text}) == expected);
      const std::string_view view = text;
      bool same = true;
      for (std::size_t i = 0; i <= view.size(); ++i) {
        same = same && read_in({view.substr(0, i), view.substr(i)}) == expected;
      }
      CHECK(same);
      std::vector<std::string_view> bytes;
      for (std::size_t i = 0; i < view.size(); ++i) bytes.push_back(view.substr(i, 1));
      CHECK(read_in(bytes) == expected);
    }
  }
}

TEST_CASE("mixed line ends are read at random splits", "[http][sse]") {
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (const char c : stream) {
      if (c != '\n') {
        text.push_back(c);
        continue;
      }
      // A lone CR before an LF line end would be one line end and not two.
      const bool after_cr = !text.empty() && text.back() == '\r';
      const auto kind = random.below(after_cr ? 2 : 3);
      text.append(kind == 0 ? "\r\n" : kind == 1 ? "\r" : "\n");
    }
    std::vector<std::string_view> pieces;
    std::string_view rest = text;
    while (!rest.empty()) {
      const auto size = std::min<std::size_t>(rest.size(), 1 + random.below(20));
      pieces.push_back(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    INFO("round " << round);
    CHECK(read_in(pieces) == expected);
  }
}

TEST_CASE("views of several events stay valid until the next feed", "[http][sse]") {
  SseReader reader;
  const auto fed = reader.feed("data: one\ndata: two\n\nevent: e\ndata: three\ndata: four\n\n");
  REQUIRE(fed);
  SseEvent first;
  SseEvent second;
  SseEvent none;
  REQUIRE(reader.next(first));
  REQUIRE(reader.next(second));
  CHECK_FALSE(reader.next(none));
  CHECK(first.data == "one\ntwo");
  CHECK(second.event == "e");
  CHECK(second.data == "three\nfour");
}

TEST_CASE("an event that was not ended counts as pending", "[http][sse]") {
  SseReader reader;
  SseEvent event;
  REQUIRE(reader.feed("data: a\n\ndata: b\n").has_value());
  CHECK(reader.pending_bytes() == std::string_view("data: b\n").size());
  CHECK(reader.next(event));
  CHECK_FALSE(reader.next(event));
  CHECK(reader.pending_bytes() == std::string_view("data: b\n").size());
  REQUIRE(reader.feed("\n").has_value());
  CHECK(reader.pending_bytes() == 0);
  CHECK(reader.next(event));
  CHECK(event.data == "b");
}

TEST_CASE("an event over the limit is an error, many small ones in one feed are not",
          "[http][sse]") {
  constexpr std::size_t limit = 100;
  SseReader reader(limit);
  std::string many;
  for (int i = 0; i < 50; ++i) many += "data: small\n\n";
  REQUIRE(reader.feed(many).has_value());
  SseEvent event;
  int count = 0;
  while (reader.next(event)) ++count;
  CHECK(count == 50);
  REQUIRE(reader.feed("data: " + std::string(limit - 7, 'x')).has_value());
  const auto over = reader.feed("xx");
  REQUIRE_FALSE(over);
  CHECK(is(over.error(), HttpError::body_too_large));
}

TEST_CASE("a byte order mark counts only at the very beginning", "[http][sse]") {
  CHECK(read_in({"\xEF\xBB\xBF\xEF\xBB\xBF"
                 "data: a\n\ndata: b\n\n"}) == Events{{"", "b"}});
  CHECK(read_in({"\xEF", "\xBB", "\xBF", "data: a\n\n"}) == Events{{"", "a"}});
  CHECK(read_in({"\xEF\xBB", "x: y\ndata: a\n\n"}) == Events{{"", "a"}});
}

}  // namespace outlast::http::test::sse_test
