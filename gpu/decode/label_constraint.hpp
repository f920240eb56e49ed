// LabelConstraint: the answer is one of a set of labels, spelt in whatever tokens.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "gpu/decode/byte_trie.hpp"
#include "gpu/decode/constraint.hpp"
#include "gpu/decode/token_trie.hpp"

namespace outlast::gpu {

inline constexpr std::size_t labels_max = 4'096;
inline constexpr std::size_t labels_bytes_max = 1U << 20;  // of all together

// Labels over one vocabulary; any number of answers. Immutable.
class LabelSet {
 public:
  // `tokenizer` is the one that `trie` is of. Errors: invalid (no label, an empty one, one twice), too_large.
  static Result<std::shared_ptr<const LabelSet>> make(const std::vector<std::string>& labels, std::shared_ptr<const Tokenizer> tokenizer,
                                                      std::shared_ptr<const TokenTrie> trie);
  // A constraint that keeps `labels` alive.
  static std::unique_ptr<Constraint> start(std::shared_ptr<const LabelSet> labels);

 private:
  friend class LabelConstraint;
  LabelSet(ByteTrie labels, std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const TokenTrie> trie)
      : labels_(std::move(labels)), tokenizer_(std::move(tokenizer)), trie_(std::move(trie)) {}

  const ByteTrie labels_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::shared_ptr<const TokenTrie> trie_;
};

}  // namespace outlast::gpu
