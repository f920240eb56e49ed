#include <functional>

#include "gpu/gpu_error.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::gpu::tokenizer_model_test {
namespace {

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  const std::size_t at = text.find(what);
  REQUIRE(at != std::string::npos);
  return text.replace(at, what.size(), by);
}

TEST_CASE("a tokenizer's file is read back as it was written", "[gpu]") {
  const TokenizerModel model = small_model();
  const auto read = parse_tokenizer(tokenizer_json(model));
  REQUIRE(read);
  CHECK(*read == model);
}

TEST_CASE("merges may be written as one text or as two", "[gpu]") {
  const TokenizerModel model = small_model(257);
  const std::string json = tokenizer_json(model);
  const std::size_t begin = json.find("\"merges\":[[") + 10;
  std::string pair = json.substr(begin, json.find(']', begin) + 1 - begin);
  const std::string as_two = pair;
  pair = replaced(pair, "[\"", "\"");
  pair = replaced(pair, "\",\"", " ");
  pair = replaced(pair, "\"]", "\"");
  const auto read = parse_tokenizer(replaced(json, as_two, pair));
  REQUIRE(read);
  CHECK(*read == model);
}

TEST_CASE("a file that this build would read otherwise than it is meant is refused, with the key", "[gpu]") {
  const std::string json = tokenizer_json(small_model(258));
  struct Case {
    std::string what;
    std::string by;
    GpuError error;
    std::string says;
  };
  const std::vector<Case> cases{
      {"\"version\"", "version", GpuError::malformed, "not JSON"},
      {"\"type\":\"BPE\"", "\"type\":\"WordPiece\"", GpuError::unsupported, "model.type is 'WordPiece'"},
      {"\"dropout\":null", "\"dropout\":0.1", GpuError::unsupported, "model.dropout"},
      {"\"unk_token\":null", "\"unk_token\":\"?\"", GpuError::unsupported, "model.unk_token"},
      {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", GpuError::unsupported, "end_of_word_suffix"},
      {"\"byte_fallback\":false", "\"byte_fallback\":true", GpuError::unsupported, "byte_fallback"},
      {"\"!\":0", "\"!\":-1", GpuError::malformed, "the id of '!'"},
      {"\"!\":0", "\"!\":1.5", GpuError::malformed, "the id of '!'"},
      {"\"!\":0", "\"!\":1", GpuError::malformed, "two tokens have the id 1"},
      {"\"!\":0", "\"\xE6\x97\xA5\":0", GpuError::unsupported, "byte-level alphabet"},
      {"\"!\":0,", "", GpuError::unsupported, "no token for the byte 33"},
      {"\"!\":0", "\"!\":0,\"!\":900", GpuError::malformed, "stands there twice"},
      {"\"merges\":[[", "\"merges\":[[\"~\",\"~\"],[", GpuError::malformed, "not made of tokens"},
      {"\"merges\":[[", "\"merges\":[\"ab\",[", GpuError::malformed, "neither"},
      {"\"merges\":[", "\"merges\":{},\"x\":[", GpuError::malformed, "merges is not an array"},
      {"\"type\":\"NFC\"", "\"type\":\"Lowercase\"", GpuError::unsupported, "normalizer: 'Lowercase'"},
      {"\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"", GpuError::unsupported, "Isolated"},
      {"\"add_prefix_space\":false", "\"add_prefix_space\":true", GpuError::unsupported, "add_prefix_space"},
      {"\"Regex\":\"(?i:", "\"Regex\":\"(?i", GpuError::malformed, "not a regular expression"},
      {"\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"TemplateProcessing\"", GpuError::unsupported, "post_processor"},
      {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Metaspace\"", GpuError::unsupported, "decoder"},
      {"\"lstrip\":false", "\"lstrip\":true", GpuError::unsupported, "lstrip"},
      {"\"content\":\"<|im_start|>\"", "\"content\":\"<|im_end|>\"", GpuError::malformed, "stands there twice"},
      {"\"content\":\"<|im_start|>\"", "\"content\":\"\"", GpuError::malformed, "has 0 bytes"},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what, one.by);
    const auto read = parse_tokenizer(replaced(json, one.what, one.by));
    REQUIRE_FALSE(read);
    INFO(read.error().message);
    CHECK(is(read.error(), one.error));
    CHECK(read.error().message.find(one.says) != std::string::npos);
  }
}

TEST_CASE("files that are no tokenizers are refused", "[gpu]") {
  for (const std::string_view text : {"", "[]", "null", "{}", "{\"model\":1}", "{\"model\":{\"type\":\"BPE\"}}"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_tokenizer(text));
  }
  CHECK_FALSE(parse_tokenizer(std::string(100'000, '[')));
}

}  // namespace
}  // namespace outlast::gpu::tokenizer_model_test
