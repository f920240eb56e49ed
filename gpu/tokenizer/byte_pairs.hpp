// BytePairs: the merges of a byte-level BPE, and their use on one word: the pair of lowest rank is merged first, of equal
// ones the leftmost, until no pair of the word has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "gpu/tokenizer/tokenizer_model.hpp"

namespace outlast::gpu {

// Immutable: any thread.
class BytePairs {
 public:
  // `model` was parsed or trained here: it has all bytes, and merges of its tokens only.
  explicit BytePairs(const TokenizerModel& model);

  // Memory of a merge(), to be used again. One owner.
  struct Scratch {
    struct Symbol {
      TokenId id = 0;
      std::int32_t previous = -1;
      std::int32_t next = -1;
      bool gone = false;
    };
    struct Candidate {
      std::uint32_t rank = 0;
      std::int32_t left = 0;
      TokenId made = 0;
      TokenId left_id = 0;  // what stood there when it was found: else it is out of date
      TokenId right_id = 0;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Appends the tokens of a word's bytes.
  void merge(std::string_view word, std::vector<TokenId>& tokens, Scratch& scratch) const;

 private:
  struct Entry {
    std::uint64_t pair = no_pair;
    std::uint32_t rank = 0;
    TokenId made = 0;
  };
  static constexpr std::uint64_t no_pair = ~std::uint64_t{0};

  [[nodiscard]] const Entry* find(TokenId left, TokenId right) const;
  [[nodiscard]] std::size_t place_of(std::uint64_t pair) const;
  void merge_short(std::string_view word, std::vector<TokenId>& tokens) const;
  void merge_long(std::string_view word, std::vector<TokenId>& tokens, Scratch& scratch) const;

  std::array<TokenId, 256> bytes_{};
  std::vector<Entry> table_;  // open addressing, at most half full
  unsigned shift_ = 0;
};

}  // namespace outlast::gpu
