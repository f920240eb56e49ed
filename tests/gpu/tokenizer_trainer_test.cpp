#include "gpu/gpu_error.hpp"
#include "tests/gpu/small_tokenizer.hpp"

namespace outlast::gpu::tokenizer_trainer_test {
namespace {

TEST_CASE("the most frequent pair is merged first, of equal ones the one of the smaller ids", "[gpu]") {
  TrainerOptions options;
  options.vocabulary = 259;
  auto trainer = TokenizerTrainer::make(options);
  REQUIRE(trainer);
  REQUIRE((*trainer)->add("abab abab cd cd cd"));  // words: "abab", " abab", " cd" three times
  const TokenizerModel model = (*trainer)->finish();
  REQUIRE(model.merges.size() == 3);
  CHECK(model.tokens[256] == "ab");
  CHECK(model.tokens[257] == "cd");  // three, as often as " c"; the letter of ' ' comes after all of Latin-1
  CHECK(model.tokens[258] == " cd");
}

TEST_CASE("a vocabulary is as large as the text gives, and at least the bytes", "[gpu]") {
  TrainerOptions options;
  options.vocabulary = 1'000;
  options.added = chat_tokens();
  auto trainer = TokenizerTrainer::make(options);
  REQUIRE(trainer);
  REQUIRE((*trainer)->add("aaaa"));
  const TokenizerModel model = (*trainer)->finish();
  CHECK(model.tokens.size() == 257);  // "aa" occurs twice or more, "aaaa" once
  CHECK(model.added.front().id == 257);
  CHECK(model.size() == 262);
  options.vocabulary = 255;
  const auto refused = TokenizerTrainer::make(options);
  REQUIRE_FALSE(refused);
  CHECK(is(refused.error(), GpuError::invalid));
}

TEST_CASE("training tells how far it is", "[gpu]") {
  TrainerOptions options;
  options.vocabulary = 600;
  auto trainer = TokenizerTrainer::make(options);
  REQUIRE(trainer);
  std::string text;
  for (int i = 0; i < 2'000; ++i) {
    for (int rest = i * 7919 % 1'000; rest > 0; rest /= 10) text += std::string(1, static_cast<char>('a' + rest % 10)) + "x";
    text += " ";
  }
  REQUIRE((*trainer)->add(text));
  std::size_t told = 0;
  const TokenizerModel model = (*trainer)->finish([&told](std::size_t done, std::size_t of) {
    CHECK(done <= of);
    told = done;
  });
  CHECK(told >= 256);
}

}  // namespace
}  // namespace outlast::gpu::tokenizer_trainer_test
