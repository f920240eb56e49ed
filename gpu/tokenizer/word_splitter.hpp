// WordSplitter: cuts text into the pieces within which a tokenizer may merge, by the regular expression of its file.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast::gpu {

inline constexpr std::size_t split_pattern_bytes_max = 4'096;

// The expression of Qwen2, Qwen2.5 and Qwen3.
inline constexpr std::string_view qwen_split_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Immutable but for the scratch memory of a match: one owner.
class WordSplitter {
 public:
  // Errors: malformed (the expression, with the place), unsupported.
  static Result<std::unique_ptr<WordSplitter>> make(std::string_view pattern);
  ~WordSplitter();
  WordSplitter(const WordSplitter&) = delete;
  WordSplitter& operator=(const WordSplitter&) = delete;

  // Appends the pieces of `text` (valid UTF-8) to `words`, in order: each match, and each run between matches. They sum
  // to the text. Errors: too_large, where the expression backtracks beyond its limit.
  Result<void> split(std::string_view text, std::vector<std::string_view>& words);

 private:
  struct Machine;
  explicit WordSplitter(std::unique_ptr<Machine> machine);
  std::unique_ptr<Machine> machine_;
};

}  // namespace outlast::gpu
