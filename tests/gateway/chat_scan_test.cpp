#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "core/random.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace chat_scan_test {

using namespace outlast;
using namespace outlast::gateway;
using outlast::gateway::testing::PaddedBody;

namespace {

Result<ChatHead> scan(const std::string& text) {
  ChatScanner scanner;
  const PaddedBody body(text);
  return scanner.scan(body.view());
}

std::string with(const std::string& members) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + members + "}";
}

std::string nested(std::size_t depth) {
  // The body itself is one level, the arrays are the others.
  return with(",\"x\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']'));
}

}  // namespace

TEST_CASE("the scanner finds the fields that routing and metering need", "[dialect]") {
  const auto head = scan(
      R"( { "model" : "smart" , "messages":[{"role":"user","content":"hi {[\",\"]}"}], "stream":true,
            "n":2,"max_tokens":200,"max_completion_tokens":100,"stream_options": {"include_usage" : true} } )");
  REQUIRE(head);
  CHECK(head->model == "smart");
  CHECK(head->stream);
  CHECK(head->include_usage);
  CHECK(head->max_tokens == 100);
  CHECK(head->choices == 2);
  CHECK(head->depth == 3);
}

TEST_CASE("the scanner's ranges are the values' own bytes", "[dialect]") {
  const std::string text =
      R"({"messages":[[]],"a":{"model":"not me"},"model" : "sm\u0061rt" ,"max_tokens": null , "stream_options" : {"x":[{}] , "include_usage": false } })";
  const auto head = scan(text);
  REQUIRE(head);
  const auto bytes = [&text](ByteRange range) {
    return text.substr(range.begin, range.end - range.begin);
  };
  CHECK(head->model == "smart");
  CHECK(bytes(head->model_value) == R"("sm\u0061rt")");
  CHECK(bytes(head->max_tokens_value) == "null");
  CHECK(bytes(head->stream_options_value) == R"({"x":[{}] , "include_usage": false })");
  CHECK(bytes(head->include_usage_value) == "false");
  CHECK_FALSE(head->max_tokens);
}

TEST_CASE("absent and null fields have their defaults", "[dialect]") {
  const auto head =
      scan(with(R"(,"stream":null,"n":null,"max_completion_tokens":null,"stream_options":null)"));
  REQUIRE(head);
  CHECK_FALSE(head->stream);
  CHECK_FALSE(head->include_usage);
  CHECK(head->choices == 1);
  CHECK_FALSE(head->max_tokens);
  CHECK(head->max_tokens_value.empty());
}

TEST_CASE("the scanner refuses what is not one whole valid JSON object", "[dialect]") {
  const char* const text = GENERATE(
      "", " ", "null", "[]", "\"x\"", "{", "}", R"({"model":"m")",
      R"({"model":"m","messages":[{}]}})", R"({"model":"m","messages":[{}]} x)",
      R"({"model":"m","messages":[1,,2]})", R"({"model":"m","messages":[tru]})",
      R"({"model":"m","messages":[{}],})", R"({"model":"m","messages":[{}],"x":01})",
      R"({"model":"m","messages":[{}],"x":1.})", R"({"model":"m","messages":[{}],"x":+1})",
      R"({"model":"m","messages":[{}],"x":NaN})", R"({"model":"m","messages":[{}] "x":1})",
      R"({"model":"m","messages":[{}],"x":"\x"})", R"({"model":"m","messages":[{}],"x":"\u12"})",
      R"({"model":"m","messages":[{}],"x":"\ud800"})",
      R"({"model":"m","messages":[{}],"x":"unclosed})",
      "{\"model\":\"m\",\"messages\":[{}],\"x\":\"a\nb\"}",
      R"({"model":"m","messages":[{}],"x":1e999})",
      R"({"model":"m","messages":[{}],"x":123456789012345678901234567890})", R"({'model':'m'})",
      R"({"model":"m","messages":[{}]}{})", R"({"model":"m","model":"other","messages":[{}]})",
      R"({"model":"m","mod\u0065l":"other","messages":[{}]})",
      R"({"model":"m","messages":[{}],"x":1,"y":2,"x":3})",
      R"({"model":"m","messages":[{}],"stream_options":{"include_usage":true,"include_usag\u0065":false}})");
  CAPTURE(text);
  const auto head = scan(text);
  REQUIRE_FALSE(head);
  CHECK(is(head.error(), DialectError::malformed_json));
  CHECK(head.error().message.size() > 10);
}

TEST_CASE("bytes that are not UTF-8 are refused with their place", "[dialect]") {
  const std::string bytes =
      GENERATE(std::string("\xff"), std::string("\xc0\xaf"), std::string("\xed\xa0\x80"),
               std::string("\xf5\x80\x80\x80"), std::string("\xe2\x82"), std::string("\x80"));
  const std::string text = with(",\"x\":\"" + bytes + "\"");
  const auto head = scan(text);
  REQUIRE_FALSE(head);
  CHECK(is(head.error(), DialectError::malformed_json));
  CHECK(head.error().message.find("UTF-8") != std::string::npos);
  const auto place =
      std::stoul(head.error().message.substr(head.error().message.find("byte ") + 5));
  CHECK(place <= text.find(bytes));
  CHECK(place + 8 > text.find(bytes));
}

TEST_CASE("a NUL byte is refused wherever it stands", "[dialect]") {
  for (const std::size_t at : {std::size_t{0}, std::size_t{1}, std::size_t{12}, std::size_t{40}}) {
    std::string text = with("");
    text.insert(at, 1, '\0');
    CAPTURE(at);
    CHECK_FALSE(scan(text));
  }
  CHECK_FALSE(scan(with("") + std::string(1, '\0')));
  CHECK(scan(with(R"(,"x":"\u0000")")));
}

TEST_CASE("nesting is allowed to 128 levels and refused beyond", "[dialect]") {
  const auto deepest = scan(nested(128));
  REQUIRE(deepest);
  CHECK(deepest->depth == 128);
  for (const std::size_t depth : {std::size_t{129}, std::size_t{130}, std::size_t{131},
                                  std::size_t{5'000}, std::size_t{200'000}}) {
    const auto head = scan(nested(depth));
    REQUIRE_FALSE(head);
    CHECK(head.error().message.find("128 levels") != std::string::npos);
  }
  CHECK_FALSE(scan(std::string(300'000, '[')));
  CHECK_FALSE(scan(with(",\"x\":" + std::string(100'000, '['))));
}

TEST_CASE("a field of the wrong type is refused by its name", "[dialect]") {
  struct Case {
    std::string text;
    std::string name;
  };
  const Case c = GENERATE(values<Case>({
      {R"({"messages":[{}]})", "model"},
      {R"({"model":null,"messages":[{}]})", "model"},
      {R"({"model":"","messages":[{}]})", "model"},
      {R"({"model":7,"messages":[{}]})", "model"},
      {R"({"model":{"model":"m"},"messages":[{}]})", "model"},
      {R"({"model":"m"})", "messages"},
      {R"({"model":"m","messages":null})", "messages"},
      {R"({"model":"m","messages":[]})", "messages"},
      {R"({"model":"m","messages":"hi"})", "messages"},
      {with(R"(,"stream":"true")"), "stream"},
      {with(R"(,"stream":1)"), "stream"},
      {with(R"(,"stream_options":[])"), "stream_options"},
      {with(R"(,"stream_options":{"include_usage":1})"), "stream_options.include_usage"},
      {with(R"(,"max_tokens":0)"), "max_tokens"},
      {with(R"(,"max_tokens":-1)"), "max_tokens"},
      {with(R"(,"max_tokens":1.5)"), "max_tokens"},
      {with(R"(,"max_tokens":"10")"), "max_tokens"},
      {with(R"(,"max_completion_tokens":-5)"), "max_completion_tokens"},
      {with(R"(,"n":0)"), "n"},
      {with(R"(,"n":129)"), "n"},
      {with(R"(,"n":18446744073709551615)"), "n"},
  }));
  CAPTURE(c.text);
  const auto head = scan(c.text);
  REQUIRE_FALSE(head);
  CHECK(is(head.error(), DialectError::invalid_request));
  CHECK(head.error().message.find("'" + c.name) != std::string::npos);
}

TEST_CASE("an error says where the JSON is malformed", "[dialect]") {
  const std::string text = with(R"(,"x":[1,tru])");
  const auto head = scan(text);
  REQUIRE_FALSE(head);
  CHECK(head.error().message.find("at byte " + std::to_string(text.find("tru"))) !=
        std::string::npos);
}

TEST_CASE("too many top-level fields are refused before they cost time", "[dialect]") {
  std::string members;
  for (int i = 0; i < 100'000; ++i) members += ",\"k" + std::to_string(i) + "\":0";
  const auto head = scan(with(members));
  REQUIRE_FALSE(head);
  CHECK(head.error().message.find("256") != std::string::npos);
}

TEST_CASE("a scanner that has read a huge body goes on with small ones", "[dialect]") {
  ChatScanner scanner;
  const PaddedBody huge(with(",\"x\":\"" + std::string(5'000'000, 'x') + "\""));
  const PaddedBody small(with(""));
  CHECK(scanner.scan(huge.view()));
  CHECK_FALSE(scanner.scan(small.view().substr(1)));
  CHECK(scanner.scan(small.view())->model == "m");
}

TEST_CASE("what the scanner accepts after random damage, another parser accepts too", "[dialect]") {
  const std::string good =
      R"({"model":"smart","messages":[{"role":"user","content":[{"type":"text","text":"a\u00e9\ud83d\ude00 é \"q\" \\"}]},{"role":"assistant","content":null}],)"
      R"("stream":true,"stream_options":{"include_usage":false},"max_tokens":12,"temperature":-1.5e-3,"n":1,"x":[[],{},[{"y":[true,false,null]}]]})";
  static constexpr std::string_view bytes = "{}[]\",:\\ \n\t0123456789eE+-.tfnu\x01\x7f\xc3\xff";
  ChatScanner scanner;
  std::size_t accepted = 0;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    Random random(seed);
    std::string text = good;
    for (std::uint64_t edits = random.below(3) + 1; edits > 0; --edits) {
      const std::size_t at = random.below(text.size());
      switch (random.below(3)) {
        case 0: text[at] = bytes[random.below(bytes.size())]; break;
        case 1: text.erase(at, random.below(4) + 1); break;
        default: text.insert(at, 1, bytes[random.below(bytes.size())]);
      }
    }
    const PaddedBody body(text);
    INFO("seed " << seed << ": " << text);
    const auto head = scanner.scan(body.view());
    if (!head) continue;
    ++accepted;
    const auto parsed = nlohmann::json::parse(text, nullptr, false);
    REQUIRE_FALSE(parsed.is_discarded());
    REQUIRE(parsed.at("model").get<std::string>() == head->model);
    const auto value =
        text.substr(head->model_value.begin, head->model_value.end - head->model_value.begin);
    REQUIRE(nlohmann::json::parse(value).get<std::string>() == head->model);
    REQUIRE(parsed.value("stream", false) == head->stream);
  }
  CHECK(accepted > 1'000);
}

}  // namespace chat_scan_test
