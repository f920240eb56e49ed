// A small tokenizer that tests train themselves.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/tokenizer/tokenizer.hpp"
#include "gpu/tokenizer/tokenizer_trainer.hpp"

namespace outlast::gpu {

inline TokenizerModel small_model(std::size_t vocabulary = 300) {
  TrainerOptions options;
  options.vocabulary = vocabulary;
  options.added = chat_tokens();
  auto trainer = TokenizerTrainer::make(options);
  REQUIRE(trainer);
  REQUIRE((*trainer)->add("the cat and the other cat sat there; then they were gone.\n\nThe rat's theatre, the end of the theme"));
  return (*trainer)->finish();
}

inline std::vector<TokenId> encoded(TokenEncoder& encoder, std::string_view text,
                                    TokenEncoder::Added added = TokenEncoder::Added::tokens) {
  std::vector<TokenId> tokens;
  const auto done = encoder.encode(text, added, tokens);
  REQUIRE(done);
  return tokens;
}

struct SmallTokenizer {
  explicit SmallTokenizer(TokenizerModel model = small_model())
      : tokenizer(std::make_shared<const Tokenizer>(std::move(model))) {
    auto made = TokenEncoder::make(tokenizer);
    REQUIRE(made);
    encoder = std::move(*made);
  }
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<TokenEncoder> encoder;
};

}  // namespace outlast::gpu
