// Makes a tokenizer of one's own text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/result.hpp"

namespace outlast::apps {

struct TokenizerOptions {
  std::vector<std::string> files;  // text; of .jsonl files what the messages of samples say
  std::string to;                  // tokenizer.json
  std::size_t vocabulary = 0;      // without the tokens of chat templates
  std::uint64_t count_min = 2;     // pairs that are rarer are not merged
};

struct TokenizerSize {
  std::size_t tokens = 0;
  std::size_t bytes = 0;  // of text that was read
};

// `progress(merges, of)`, now and then; may be null. Errors: failed, not_found.
Result<TokenizerSize> train_tokenizer(const TokenizerOptions& options, const std::function<void(std::size_t, std::size_t)>& progress);

}  // namespace outlast::apps
