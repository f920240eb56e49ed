// Texts of schemas, byte by byte.
#include <random>

#include <catch2/catch.hpp>

#include "gpu/decode/json_schema.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"
#include "tests/gpu/json_validator.hpp"

namespace outlast::gpu::json_schema_test {
namespace {

std::shared_ptr<const JsonGrammar> grammar_of(const std::string& schema, std::uint16_t spaces = 1) {
  auto grammar = compile_json_schema(schema, {spaces});
  if (!grammar) FAIL(grammar.error().message);
  return *grammar;
}

// Whether the text is one of the grammar's: complete, or only begun.
enum class Fit { no, begun, complete };
Fit fit_of(const JsonGrammar& grammar, std::string_view text) {
  JsonState state = grammar.start();
  JsonState next;
  for (const char byte : text) {
    if (!grammar.step(state, static_cast<std::uint8_t>(byte), next)) return Fit::no;
    std::swap(state, next);
  }
  return JsonGrammar::complete(state) ? Fit::complete : Fit::begun;
}
bool fits(const std::string& schema, std::string_view text) { return fit_of(*grammar_of(schema), text) == Fit::complete; }

TEST_CASE("objects have their properties in order, the required ones and no others", "[gpu][decode]") {
  const std::string schema = R"({"type":"object","properties":{"a":{"type":"integer"},"ab":{"type":"null"},"c\"":{"type":"boolean"}},"required":["ab"],"additionalProperties":false})";
  CHECK(fits(schema, R"({"a":1,"ab":null,"c\"":true})"));
  CHECK(fits(schema, R"({"a": 12, "ab": null})"));
  CHECK(fits(schema, R"({"ab":null})"));
  CHECK(fits(schema, "{\n\"ab\": null\n}"));
  CHECK_FALSE(fits(schema, "{  \"ab\":null}"));  // one space at a place
  CHECK_FALSE(fits(schema, " {\"ab\":null}"));
  CHECK_FALSE(fits(schema, R"({"a":1})"));
  CHECK_FALSE(fits(schema, R"({})"));
  CHECK_FALSE(fits(schema, R"({"ab":null,"a":1})"));
  CHECK_FALSE(fits(schema, R"({"ab":null,})"));
  CHECK_FALSE(fits(schema, R"({"ab":null,"ab":null})"));
  CHECK_FALSE(fits(schema, R"({"b":1})"));
  CHECK(fits(R"({"type":"object","properties":{}})", "{}"));
  CHECK(fit_of(*grammar_of(schema, 0), R"({"ab": null})") == Fit::no);
}

TEST_CASE("arrays have as many items as they may", "[gpu][decode]") {
  const std::string schema = R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})";
  CHECK(fits(schema, "[1]"));
  CHECK(fits(schema, "[ 1, 22 ,-3 ]"));
  CHECK_FALSE(fits(schema, "[]"));
  CHECK_FALSE(fits(schema, "[1,2,3,4]"));
  CHECK_FALSE(fits(schema, "[1,]"));
  CHECK(fits(R"({"type":"array","items":{"type":"null"}})", "[ ]"));
  CHECK(fits(R"({"type":"array","items":{"type":"null"},"maxItems":0})", "[]"));
  CHECK_FALSE(fits(R"({"type":"array","items":{"type":"null"},"maxItems":0})", "[null]"));
  CHECK(fits(R"({"type":"array","items":{"type":"array","items":{"type":"null"}}})", "[[],[null,null]]"));
}

TEST_CASE("strings are UTF-8 with JSON's escapes, and as long as they may be", "[gpu][decode]") {
  const std::string any = R"({"type":"string"})";
  for (const std::string_view good : {R"("")", R"("a\"\\\/\b\f\n\r\t")", R"("\u00e9\uD7ff\ue000")", "\"é日🙂\x7F\""}) CHECK(fits(any, good));
  for (const std::string_view bad : {"\"\n\"", R"("\x")", R"("\u00g0")", R"("\ud800")", R"("\uDfff")", "\"\x80\"", "\"\xC0\x80\"", "\"\xED\xA0\x80\"", "\"\xF4\x90\x80\x80\"", "\"\xE6\x97\"", "a"})
    CHECK_FALSE(fits(any, bad));
  const std::string sized = R"({"type":"string","minLength":2,"maxLength":3})";
  for (const std::string_view good : {R"("ab")", R"("日🙂é")", R"("\n\u0041b")"}) CHECK(fits(sized, good));
  for (const std::string_view bad : {R"("a")", R"("🙂")", R"("abcd")", R"("abc\n")"}) CHECK_FALSE(fits(sized, bad));
}

TEST_CASE("numbers are JSON's", "[gpu][decode]") {
  const std::string number = R"({"type":"number"})";
  for (const std::string_view good : {"0", "-0", "10", "-1.5", "0.001", "1e5", "1E-07", "2.5e+10"}) CHECK(fits(number, good));
  for (const std::string_view bad : {"01", "+1", ".5", "1.", "1e", "-", "1e+", "--1", "1e100", "1234567890123456789"}) CHECK_FALSE(fits(number, bad));
  const std::string whole = R"({"type":"integer"})";
  for (const std::string_view good : {"0", "-12", "123456789012345678"}) CHECK(fits(whole, good));
  for (const std::string_view bad : {"1.0", "1e5", "1234567890123456789"}) CHECK_FALSE(fits(whole, bad));
}

TEST_CASE("values are those of enum and const", "[gpu][decode]") {
  const std::string schema = R"({"enum":["red","re",1,12,null,{"a":[true]}]})";
  for (const std::string_view good : {R"("red")", R"("re")", "1", "12", "null", R"({"a":[true]})"}) CHECK(fits(schema, good));
  for (const std::string_view bad : {R"("r")", "2", "nul", R"({"a":[]})"}) CHECK_FALSE(fits(schema, bad));
  CHECK(fits(R"({"type":"string","const":"a\n\"é"})", R"("a\n\"é")"));
  CHECK(fits(R"({"type":"array","items":{"enum":[1,12]}})", "[1,12, 1]"));
}

TEST_CASE("one of several schemas may come, also where they begin alike", "[gpu][decode]") {
  const std::string schema = R"({"anyOf":[{"type":"object","properties":{"kind":{"const":"a"},"x":{"type":"integer"}},"required":["kind","x"]},
    {"type":"object","properties":{"kind":{"const":"ab"},"y":{"type":"null"}},"required":["kind","y"]},{"type":["integer","null"]},{"type":"number"}]})";
  for (const std::string_view good : {R"({"kind":"a","x":3})", R"({"kind":"ab","y":null})", "7", "7.5", "null"}) CHECK(fits(schema, good));
  for (const std::string_view bad : {R"({"kind":"a","y":null})", R"({"kind":"ab","x":3})", "true"}) CHECK_FALSE(fits(schema, bad));
}

TEST_CASE("a schema that refers to itself is followed as deep as it may be", "[gpu][decode]") {
  const std::string tree = R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"v":{"type":"integer"},"next":{"$ref":"#/$defs/node"}},"required":["v"]}}})";
  CHECK(fits(tree, R"({"v":1})"));
  CHECK(fits(tree, R"({"v":1,"next":{"v":2,"next":{"v":3}}})"));
  std::string deep;
  for (int i = 0; i < 8; ++i) deep += R"({"v":1,"next":)";
  CHECK(fit_of(*grammar_of(tree), deep) == Fit::no);  // the eighth has no property of that name
  CHECK(fit_of(*grammar_of(tree), std::string_view(deep).substr(0, deep.size() - 10)) == Fit::begun);
  const std::string list = R"({"type":"array","items":{"$ref":"#"}})";
  CHECK(fits(list, "[[],[[]]]"));
}

TEST_CASE("what is not supported is refused by its name", "[gpu][decode]") {
  const auto refused = [](const std::string& schema, GpuError error, const std::string& part) {
    CAPTURE(schema);
    const auto grammar = compile_json_schema(schema);
    REQUIRE(!grammar);
    CAPTURE(grammar.error().message);
    CHECK(is(grammar.error(), error));
    CHECK(grammar.error().message.find(part) != std::string::npos);
  };
  refused(R"({"type":"string","pattern":"a+"})", GpuError::unsupported, "'pattern'");
  refused(R"({"type":"string","format":"date"})", GpuError::unsupported, "'format'");
  refused(R"({"type":"integer","minimum":1})", GpuError::unsupported, "'minimum'");
  refused(R"({"oneOf":[{"type":"null"}]})", GpuError::unsupported, "'oneOf'");
  refused(R"({"type":"object","properties":{"a":{"type":"null"}},"patternProperties":{}})", GpuError::unsupported, "'patternProperties'");
  refused(R"({"type":"object","properties":{"a":{"type":"null","nullable":true}}})", GpuError::unsupported, "'nullable'");
  refused(R"({"type":"object","properties":{},"additionalProperties":{"type":"null"}})", GpuError::unsupported, "'additionalProperties'");
  refused(R"({"type":"object"})", GpuError::unsupported, "'properties'");
  refused(R"({"type":"array"})", GpuError::unsupported, "'items'");
  refused(R"({"type":"string","items":{"type":"null"}})", GpuError::unsupported, "'items'");
  refused(R"({"anyOf":[{"type":"null"}],"type":"null"})", GpuError::unsupported, "'type'");
  refused(R"({})", GpuError::unsupported, "'type'");
  refused(R"({"type":"array","items":true})", GpuError::unsupported, "'type'");
  refused(R"({"$ref":"http://elsewhere/"})", GpuError::unsupported, "'$ref'");
  refused(R"({"$ref":"#/$defs/none"})", GpuError::unsupported, "'$ref'");
  refused(R"({"type":"text"})", GpuError::invalid, "'type'");
  refused(R"({"type":"string","minLength":3,"maxLength":2})", GpuError::invalid, "'maxLength'");
  refused(R"({"type":"string","minLength":-1})", GpuError::invalid, "'minLength'");
  refused(R"({"type":"object","properties":{},"required":["a"]})", GpuError::invalid, "'required'");
  refused(R"({"type":"object","properties":{"a":{"type":"null"},"a":{"type":"null"}}})", GpuError::invalid, "twice");
  refused(R"({"type":"integer","enum":["a"]})", GpuError::invalid, "'enum'");
  refused(R"({"enum":[]})", GpuError::invalid, "'enum'");
  refused(R"({"$ref":"#"})", GpuError::invalid, "no text ends");
  refused(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", GpuError::invalid, "no text ends");
  refused("{", GpuError::malformed, "not JSON");
  std::string deep;
  for (int i = 0; i < 70; ++i) deep += R"({"type":"array","items":)";
  refused(deep + R"({"type":"null"})" + std::string(70, '}'), GpuError::too_large, "64");
}

TEST_CASE("schemas that unfold without end are refused in no time", "[gpu][decode]") {
  const auto too_large = [](const std::string& schema) {
    const auto grammar = compile_json_schema(schema);
    REQUIRE(!grammar);
    CAPTURE(grammar.error().message);
    CHECK(is(grammar.error(), GpuError::too_large));
  };
  const auto list = [](std::size_t count, const std::string& one) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i) all += (i == 0 ? "" : ",") + one;
    return all;
  };
  const auto named = [](std::size_t count) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i) all += (i == 0 ? "\"p" : ",\"p") + std::to_string(i) + R"(":{"type":"null"})";
    return all;
  };
  // Each level refers to the next many times over.
  std::string levels = R"("l7":{"type":"null"})";
  for (int level = 6; level >= 0; --level) levels += ",\"l" + std::to_string(level) + R"(":{"anyOf":[)" + list(500, R"({"$ref":"#/$defs/l)" + std::to_string(level + 1) + "\"}") + "]}";
  CHECK(compile_json_schema(R"({"$ref":"#/$defs/l0","$defs":{)" + levels + "}}"));
  too_large(R"({"anyOf":[)" + list(65, R"({"type":"null"})") + "]}");
  too_large(R"({"type":"object","properties":{)" + named(64) + "}}");
  too_large(R"({"type":"object","properties":{)" + named(1'025) + "}}");
  CHECK(compile_json_schema(R"({"type":"object","properties":{)" + named(63) + "}}"));
  too_large(std::string(300'000, ' ') + "{}");
  const std::string word = "\"" + std::string(200'000, 'a') + "\"";
  too_large(R"({"type":"object","properties":{"a":{"enum":[)" + word + R"(]},"b":{"$ref":"#"},"c":{"$ref":"#"}}})");
}

TEST_CASE("broken schemas are refused or understood, and nothing else", "[gpu][decode]") {
  const auto schemas = schemas_of_all_kinds();
  for (std::uint64_t round = 0; round < 20'000; ++round) {
    std::string schema = schemas[noise(round, 0) % schemas.size()];
    for (std::uint64_t change = 0; change < 1 + noise(round, 1) % 3; ++change) {
      const std::size_t at = noise(round, 10 + change) % schema.size();
      const std::string_view bytes = "{}[]\",:019aetn$#/";
      const char byte = bytes[noise(round, 20 + change) % bytes.size()];
      if (noise(round, 30 + change) % 2 == 0) schema[at] = byte;
      else schema.erase(at, 1 + noise(round, 40 + change) % 8);
    }
    const auto grammar = compile_json_schema(schema);
    if (!grammar) CHECK(!grammar.error().message.empty());
    else CHECK((*grammar)->start().size() > 0);
  }
}

TEST_CASE("texts made of random bytes that may come never stick, and obey their schema when they end", "[gpu][decode]") {
  std::size_t complete = 0;
  for (const std::string& schema : schemas_of_all_kinds()) {
    const auto grammar = grammar_of(schema, 2);
    const auto parsed = nlohmann::ordered_json::parse(schema);
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      CAPTURE(schema, seed);
      JsonState state = grammar->start();
      JsonState next;
      std::string text;
      // Bytes that close things come more often than others, so that texts end.
      for (std::uint64_t i = 0; text.size() < 400; ++i) {
        const std::uint64_t bits = noise(seed, i);
        if (JsonGrammar::complete(state) && bits % 4 == 0) break;
        std::vector<std::uint8_t> may;
        for (int byte = 0; byte < 256; ++byte) {
          if (!grammar->step(state, static_cast<std::uint8_t>(byte), next)) continue;
          const int weight = std::string_view("\"}]").find(static_cast<char>(byte)) != std::string_view::npos ? 30 : 1;
          may.insert(may.end(), static_cast<std::size_t>(weight), static_cast<std::uint8_t>(byte));
        }
        if (may.empty()) {
          REQUIRE(JsonGrammar::complete(state));
          break;
        }
        const std::uint8_t byte = may[(bits >> 8) % may.size()];
        REQUIRE(grammar->step(state, byte, next));
        std::swap(state, next);
        text += static_cast<char>(byte);
      }
      if (!JsonGrammar::complete(state)) continue;
      ++complete;
      CAPTURE(text);
      REQUIRE(nlohmann::json::accept(text));
      REQUIRE(obeys(nlohmann::ordered_json::parse(text), parsed, parsed));
    }
  }
  CHECK(complete > 300);
}

}  // namespace
}  // namespace outlast::gpu::json_schema_test
