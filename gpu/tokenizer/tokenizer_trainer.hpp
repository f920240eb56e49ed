// TokenizerTrainer: makes a byte-level BPE from text, so that tests, demos and students with a vocabulary of their own need
// nothing from outside. The same merges as the `tokenizers` library's trainer makes from the same words.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.hpp"
#include "gpu/tokenizer/tokenizer_model.hpp"
#include "gpu/tokenizer/word_splitter.hpp"

namespace outlast::gpu {

struct TrainerOptions {
  std::size_t vocabulary = 4'096;  // tokens, the 256 bytes among them, without the added ones
  std::uint64_t count_min = 2;     // a pair that is rarer is not merged
  std::string pattern{qwen_split_pattern};
  std::vector<AddedToken> added;   // their ids are given here, behind the vocabulary
};

// What Qwen's templates need.
std::vector<AddedToken> chat_tokens();

// One owner.
class TokenizerTrainer {
 public:
  // Errors: invalid (a vocabulary below 256 or beyond its limit), malformed (the pattern).
  static Result<std::unique_ptr<TokenizerTrainer>> make(TrainerOptions options);

  // Errors: too_large, with more different words than memory is kept for.
  Result<void> add(std::string_view text);
  // `progress(merges, of)`, now and then. Fewer merges than asked for where the text has no more.
  TokenizerModel finish(const std::function<void(std::size_t, std::size_t)>& progress = nullptr);

 private:
  TokenizerTrainer(TrainerOptions options, std::unique_ptr<WordSplitter> splitter);

  TrainerOptions options_;
  const std::unique_ptr<WordSplitter> splitter_;
  std::unordered_map<std::string, std::uint64_t> words_;
  std::size_t bytes_ = 0;
};

}  // namespace outlast::gpu
