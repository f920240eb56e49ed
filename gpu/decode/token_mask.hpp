// TokenMask: a set of token ids.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/tokenizer/tokenizer_model.hpp"

namespace outlast::gpu {

// A value.
class TokenMask {
 public:
  // Of ids below `tokens`; with none in it.
  explicit TokenMask(std::size_t tokens = 0) : tokens_(tokens), words_((tokens + 63) / 64) {}

  [[nodiscard]] std::size_t tokens() const { return tokens_; }
  void clear() { std::fill(words_.begin(), words_.end(), 0); }
  void add(TokenId token) { words_[token / 64] |= std::uint64_t{1} << (token % 64); }
  [[nodiscard]] bool has(TokenId token) const { return token < tokens_ && ((words_[token / 64] >> (token % 64)) & 1) != 0; }
  [[nodiscard]] bool empty() const {
    return std::all_of(words_.begin(), words_.end(), [](std::uint64_t word) { return word == 0; });
  }
  template <class Visit>
  void for_each(const Visit& visit) const {
    for (std::size_t word = 0; word < words_.size(); ++word) {
      for (std::uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) visit(static_cast<TokenId>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits))));
    }
  }

 private:
  std::size_t tokens_;
  std::vector<std::uint64_t> words_;
};

}  // namespace outlast::gpu
