#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/json_writer.hpp"
#include "core/random.hpp"

namespace json_writer_test {

using outlast::JsonWriter;
using outlast::Random;

namespace {

std::string escaped(std::string_view text) {
  std::string out;
  outlast::append_json_escaped(out, text);
  return out;
}

constexpr std::string_view replacement = "\xef\xbf\xbd";

}  // namespace

TEST_CASE("quotes, backslashes and control characters are escaped", "[json]") {
  CHECK(escaped(R"(say "hi" \ bye)") == R"(say \"hi\" \\ bye)");
  CHECK(escaped("a\nb\rc\td") == R"(a\nb\rc\td)");
  CHECK(escaped(std::string_view("\0\x01\x1f\x7f", 4)) == "\\u0000\\u0001\\u001f\\u007f");
}

TEST_CASE("valid UTF-8 passes unchanged", "[json]") {
  for (const std::string_view text :
       {"é", "日本", "😀", "\xc2\x80", "\xef\xbf\xbf", "\xf4\x8f\xbf\xbf", "\xed\x9f\xbf"}) {
    CHECK(escaped(text) == text);
  }
}

TEST_CASE("each byte that is not valid UTF-8 becomes one replacement character", "[json]") {
  const std::pair<std::string_view, int> cases[] = {
      {"\x80", 1},              // a lone continuation
      {"\xc3", 1},              // cut short
      {"\xc0\xaf", 2},          // overlong
      {"\xe0\x80\xaf", 3},      // overlong
      {"\xed\xa0\x80", 3},      // a surrogate
      {"\xf4\x90\x80\x80", 4},  // beyond U+10FFFF
      {"\xff", 1},
  };
  for (const auto& [bytes, count] : cases) {
    std::string expected = "a";
    for (int i = 0; i < count; ++i) expected += replacement;
    CHECK(escaped("a" + std::string(bytes) + "z") == expected + "z");
  }
}

TEST_CASE("whatever bytes are written, another parser reads valid JSON", "[json]") {
  const auto seed = GENERATE(range(0, 20));
  Random random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 200; ++i) {
    std::string bytes;
    for (std::uint64_t n = random.below(24); n > 0; --n) {
      bytes +=
          static_cast<char>(random.below(3) == 0 ? random.below(256) : 0xc0 + random.below(64));
    }
    std::string out;
    JsonWriter(out).begin_object().key(bytes).string(bytes).end_object();
    CAPTURE(seed, i, out);
    REQUIRE(nlohmann::json::accept(out));
  }
}

TEST_CASE("text without faults reads back the same", "[json]") {
  const std::string text = "tab\t quote\" slash\\ null" + std::string(1, '\0') + " é 日本 😀";
  std::string out;
  JsonWriter(out).string(text);
  CHECK(nlohmann::json::parse(out).get<std::string>() == text);
}

TEST_CASE("commas stand between the members of nested objects and arrays, and only there",
          "[json]") {
  std::string out;
  JsonWriter json(out);
  json.begin_object()
      .key("a")
      .begin_array()
      .number(1)
      .number(-2)
      .begin_object()
      .end_object()
      .begin_array()
      .end_array();
  json.end_array()
      .key("b")
      .boolean(true)
      .key("c")
      .null()
      .key("d")
      .raw("[7]")
      .key("e")
      .string("x")
      .end_object();
  CHECK(out == R"({"a":[1,-2,{},[]],"b":true,"c":null,"d":[7],"e":"x"})");
}

TEST_CASE("numbers keep every bit and what JSON cannot hold becomes null", "[json]") {
  std::string out;
  JsonWriter json(out);
  json.begin_array()
      .number(std::numeric_limits<std::int64_t>::min())
      .number(std::numeric_limits<std::uint64_t>::max());
  json.real(0.1).real(std::nan("")).real(std::numeric_limits<double>::infinity()).end_array();
  CHECK(out == "[-9223372036854775808,18446744073709551615,0.1,null,null]");
  Random random(5);
  for (int i = 0; i < 500; ++i) {
    const double value =
        (random.fraction() - 0.5) * std::pow(10.0, static_cast<double>(random.below(40)) - 20.0);
    std::string text;
    JsonWriter(text).real(value);
    REQUIRE(std::stod(text) == value);
  }
}

}  // namespace json_writer_test
