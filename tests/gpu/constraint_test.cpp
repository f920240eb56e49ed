// Constraints over a vocabulary: token by token, under random logits.
#include <set>

#include "gpu/decode/json_constraint.hpp"
#include "gpu/decode/label_constraint.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"
#include "tests/gpu/json_validator.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::gpu::constraint_test {
namespace {

struct Vocabulary {
  Vocabulary() : small(small_model(400)), trie(std::make_shared<const TokenTrie>(*small.tokenizer)) {}
  SmallTokenizer small;
  std::shared_ptr<const TokenTrie> trie;
};

std::vector<TokenId> tokens_in(const TokenMask& mask) {
  std::vector<TokenId> tokens;
  mask.for_each([&tokens](TokenId token) { tokens.push_back(token); });
  return tokens;
}

// Whether a text that begins so may come, by the grammar itself.
bool may_begin(const JsonGrammar& grammar, std::string_view text) {
  JsonState state = grammar.start();
  JsonState next;
  for (const char byte : text) {
    if (!grammar.step(state, static_cast<std::uint8_t>(byte), next)) return false;
    std::swap(state, next);
  }
  return true;
}

TEST_CASE("a walk over the vocabulary finds the tokens that go on, each of them", "[gpu][decode]") {
  const Vocabulary all;
  CHECK(all.trie->tokens() == all.small.tokenizer->size());
  TokenMask mask(all.trie->tokens());
  all.trie->walk([](std::size_t, std::uint8_t) { return true; }, mask);
  for (TokenId id = 0; id < all.small.tokenizer->size(); ++id) CHECK(mask.has(id) == (id < all.small.tokenizer->model().tokens.size()));
  const std::string_view word = " theatre";
  mask.clear();
  all.trie->walk([word](std::size_t depth, std::uint8_t byte) { return depth < word.size() && static_cast<std::uint8_t>(word[depth]) == byte; }, mask);
  for (TokenId id = 0; id < all.small.tokenizer->size(); ++id) {
    const std::string_view bytes = all.small.tokenizer->bytes_of(id);
    CHECK(mask.has(id) == (!bytes.empty() && word.starts_with(bytes)));
  }
}

TEST_CASE("a label is spelt in whatever tokens, and nothing else is", "[gpu][decode]") {
  const Vocabulary all;
  const std::vector<std::string> labels{"the cat", "the", "gone", "été"};
  auto set = LabelSet::make(labels, all.small.tokenizer, all.trie);
  REQUIRE(set);
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const auto constraint = LabelSet::start(*set);
    std::string text;
    for (std::uint64_t i = 0;; ++i) {
      const auto tokens = tokens_in(constraint->allowed());
      if (tokens.empty() || (constraint->may_end() && noise(seed, 1'000 + i) % 2 == 0)) break;
      const TokenId token = tokens[noise(seed, i) % tokens.size()];
      constraint->advance(token);
      text += all.small.tokenizer->bytes_of(token);
    }
    CHECK(constraint->may_end());
    CHECK(std::find(labels.begin(), labels.end(), text) != labels.end());
    seen.insert(text);
  }
  CHECK(seen.size() == labels.size());
}

TEST_CASE("label sets that cannot be are refused", "[gpu][decode]") {
  const Vocabulary all;
  CHECK(!LabelSet::make({}, all.small.tokenizer, all.trie));
  CHECK(!LabelSet::make({"a", ""}, all.small.tokenizer, all.trie));
  CHECK(!LabelSet::make({"a", "a"}, all.small.tokenizer, all.trie));
  const auto many = LabelSet::make(std::vector<std::string>(5'000, "a"), all.small.tokenizer, all.trie);
  REQUIRE(!many);
  CHECK(is(many.error(), GpuError::too_large));
}

TEST_CASE("masks are those of trying every token", "[gpu][decode]") {
  const Vocabulary all;
  for (const std::string& schema : schemas_of_all_kinds()) {
    auto grammar = compile_json_schema(schema);
    REQUIRE(grammar);
    JsonTexts texts(*grammar, all.small.tokenizer, all.trie);
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      CAPTURE(schema, seed);
      const auto constraint = texts.start();
      std::string text;
      for (std::uint64_t i = 0; i < 25; ++i) {
        const TokenMask mask = constraint->allowed();
        for (TokenId id = 0; id < all.small.tokenizer->size(); ++id) {
          const bool proper = id < all.small.tokenizer->model().tokens.size();
          REQUIRE(mask.has(id) == (proper && may_begin(**grammar, text + std::string(all.small.tokenizer->bytes_of(id)))));
        }
        const auto tokens = tokens_in(mask);
        REQUIRE((!tokens.empty() || constraint->may_end()));
        if (tokens.empty()) break;
        const TokenId token = tokens[noise(seed, i) % tokens.size()];
        constraint->advance(token);
        text += all.small.tokenizer->bytes_of(token);
      }
    }
  }
}

TEST_CASE("under random logits an answer never leaves its grammar, and obeys its schema when it ends", "[gpu][decode]") {
  const Vocabulary all;
  std::size_t complete = 0;
  for (const std::string& schema : schemas_of_all_kinds()) {
    auto grammar = compile_json_schema(schema);
    REQUIRE(grammar);
    const Json parsed = Json::parse(schema);
    JsonTexts texts(*grammar, all.small.tokenizer, all.trie);
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      CAPTURE(schema, seed);
      const auto constraint = texts.start();
      std::string text;
      for (std::uint64_t i = 0; i < 200; ++i) {
        const auto tokens = tokens_in(constraint->allowed());
        if (tokens.empty() || (constraint->may_end() && noise(seed, 1'000 + i) % 3 == 0)) break;
        // Quotes come more often than chance has them, so that texts end.
        const auto closes = [&](TokenId token) { return std::string_view("\"}]").find(all.small.tokenizer->bytes_of(token)) != std::string_view::npos; };
        const auto closing = std::find_if(tokens.begin(), tokens.end(), closes);
        const bool close = closing != tokens.end() && noise(seed, 2'000 + i) % 4 == 0;
        const TokenId token = close ? *closing : tokens[noise(seed, i) % tokens.size()];
        constraint->advance(token);
        text += all.small.tokenizer->bytes_of(token);
        REQUIRE(may_begin(**grammar, text));
      }
      if (!constraint->may_end()) continue;
      ++complete;
      CAPTURE(text);
      REQUIRE(Json::accept(text));
      REQUIRE(obeys(Json::parse(text), parsed, parsed));
    }
  }
  CHECK(complete > 200);
}

TEST_CASE("a long text far from its limit has the masks of one without", "[gpu][decode]") {
  const Vocabulary all;
  auto grammar = compile_json_schema(R"({"type":"string","maxLength":100})");
  REQUIRE(grammar);
  JsonTexts texts(*grammar, all.small.tokenizer, all.trie);
  const auto constraint = texts.start();
  const auto id_of = [&](std::string_view bytes) {
    const auto& tokens = all.small.tokenizer->model().tokens;
    return static_cast<TokenId>(std::find(tokens.begin(), tokens.end(), bytes) - tokens.begin());
  };
  constraint->advance(id_of("\""));
  const TokenMask* const first = &constraint->allowed();
  for (int i = 0; i < 50; ++i) {
    constraint->advance(id_of("a"));
    CHECK(&constraint->allowed() == first);  // kept, not made again
  }
  for (int i = 50; i < 100; ++i) {
    constraint->advance(id_of("a"));
    const TokenMask& mask = constraint->allowed();
    mask.for_each([&](TokenId token) {
      const std::string_view bytes = all.small.tokenizer->bytes_of(token);
      if (bytes.back() != '"') CHECK(characters(std::string(bytes)) <= static_cast<std::size_t>(99 - i));
    });
  }
  CHECK(tokens_in(constraint->allowed()) == std::vector<TokenId>{id_of("\"")});
}

}  // namespace
}  // namespace outlast::gpu::constraint_test
