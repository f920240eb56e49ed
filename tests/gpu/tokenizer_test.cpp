#include <random>

#include "gpu/tokenizer/unicode.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::gpu::tokenizer_test {
namespace {

using Added = TokenEncoder::Added;

// Merging by definition: the pair of lowest rank anywhere in the word, the leftmost of equal ones.
std::vector<TokenId> merged_by_definition(const TokenizerModel& model, std::string_view word) {
  std::vector<std::string> parts;
  for (const char byte : word) parts.emplace_back(1, byte);
  for (;;) {
    std::size_t best_rank = model.merges.size();
    std::size_t best = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        const auto [left, right] = model.merges[rank];
        if (model.tokens[left] == parts[i] && model.tokens[right] == parts[i + 1]) {
          best_rank = rank;
          best = i;
        }
      }
    }
    if (best_rank == model.merges.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  std::vector<TokenId> ids;
  for (const std::string& part : parts) {
    ids.push_back(static_cast<TokenId>(std::find(model.tokens.begin(), model.tokens.end(), part) - model.tokens.begin()));
  }
  return ids;
}

TEST_CASE("tokens give back the text that they were made from", "[gpu]") {
  SmallTokenizer small;
  for (const std::string text : {"", "the cat", "été 日本語 🙂🇩🇪", "a\r\n\r\n  b\t \n", "x’s 'S 'll"}) {
    CAPTURE(text);
    CHECK(small.tokenizer->decode(encoded(*small.encoder, text), true) == text);
  }
}

TEST_CASE("words of every length are merged as the ranks say", "[gpu]") {
  const TokenizerModel model = small_model(400);
  SmallTokenizer small(model);
  std::mt19937 random(3);
  const std::string_view letters = "thecaronds";
  for (const std::size_t size : {1U, 2U, 7U, 47U, 48U, 49U, 200U}) {
    for (int round = 0; round < 20; ++round) {
      std::string word;
      while (word.size() < size) word += letters[random() % letters.size()];
      CAPTURE(word);
      const auto expected = merged_by_definition(model, word);
      CHECK(encoded(*small.encoder, word) == expected);
      CHECK(encoded(*small.encoder, word) == expected);  // from what it remembers
    }
  }
}

TEST_CASE("added tokens are found as the longest that stand in a template, and nowhere in a person's text", "[gpu]") {
  SmallTokenizer small;
  const TokenId end = *small.tokenizer->added("<|im_end|>");
  CHECK(encoded(*small.encoder, "<|im_end|>") == std::vector<TokenId>{end});
  const auto as_text = encoded(*small.encoder, "<|im_end|>", Added::text);
  CHECK(as_text.size() > 1);
  CHECK(std::find(as_text.begin(), as_text.end(), end) == as_text.end());
  CHECK(small.tokenizer->decode(as_text, false) == "<|im_end|>");
  CHECK(small.tokenizer->decode(encoded(*small.encoder, "a<|im_end|>b"), false) == "ab");
}

TEST_CASE("text that is not UTF-8 counts as replacement characters, one for each cut-off sequence", "[gpu]") {
  std::string copy;
  CHECK(valid_utf8("ok", copy) == "ok");
  CHECK(valid_utf8("a\xC3", copy) == "a\xEF\xBF\xBD");
  CHECK(valid_utf8("\xF0\x9F\x98z", copy) == "\xEF\xBF\xBDz");         // three bytes of four: one
  CHECK(valid_utf8("\xE0\x80", copy) == "\xEF\xBF\xBD\xEF\xBF\xBD");   // overlong: each byte
  CHECK(valid_utf8("\xED\xA0\x80", copy) == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate
  CHECK(valid_utf8("\xFF", copy) == "\xEF\xBF\xBD");
  SmallTokenizer small;
  CHECK(encoded(*small.encoder, "a\xFF") == encoded(*small.encoder, "a\xEF\xBF\xBD"));
}

TEST_CASE("composed and decomposed characters are the same tokens", "[gpu]") {
  SmallTokenizer small;
  CHECK(encoded(*small.encoder, "e\xCC\x81") == encoded(*small.encoder, "\xC3\xA9"));
}

TEST_CASE("a stream lets out whole characters only, and all of the text", "[gpu]") {
  SmallTokenizer small;
  std::string text = "été 日本語 🙂 the cat";
  TokenStream stream(small.tokenizer);
  std::string streamed;
  for (const TokenId id : encoded(*small.encoder, text)) {
    const std::string part = stream.push(id);
    std::string copy;
    CHECK(valid_utf8(part, copy) == part);
    CHECK(part.find("\xEF\xBF\xBD") == std::string::npos);
    streamed += part;
  }
  CHECK(streamed + stream.finish() == text);

  const auto bytes = encoded(*small.encoder, "日");
  REQUIRE(bytes.size() == 3);
  CHECK(stream.push(bytes[0]).empty());
  CHECK(stream.push(bytes[1]).empty());
  CHECK(stream.finish() == "\xEF\xBF\xBD");
  CHECK(stream.finish().empty());
  CHECK(stream.push(*small.tokenizer->added("<|im_end|>")).empty());
}

TEST_CASE("ids that are no token's stand for nothing", "[gpu]") {
  SmallTokenizer small;
  CHECK(small.tokenizer->decode(std::vector<TokenId>{4'000'000'000U, static_cast<TokenId>(small.tokenizer->size())}, true).empty());
}

}  // namespace
}  // namespace outlast::gpu::tokenizer_test
