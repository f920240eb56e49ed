// TokenTrie: the bytes of a vocabulary's tokens as a tree, so that those which may come next are found by walking it against
// whatever says which byte may come next, and what cannot come is left out a branch at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/decode/token_mask.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu {

// Immutable.
class TokenTrie {
 public:
  // Of the tokenizer's vocabulary without added tokens.
  explicit TokenTrie(const Tokenizer& tokenizer);

  // One more than the largest id.
  [[nodiscard]] std::size_t tokens() const { return tokens_; }
  // Bytes of the longest token.
  [[nodiscard]] std::size_t longest() const { return longest_; }

  // Adds the tokens whose bytes all go: `go(depth, byte)` says whether byte number `depth` may be this, all before it having gone.
  template <class Go>
  void walk(const Go& go, TokenMask& mask) const {
    for (std::size_t at = 0; at < nodes_.size();) {
      const Node& node = nodes_[at];
      if (!go(node.depth, node.byte)) {
        at = node.behind;
        continue;
      }
      for (std::uint32_t i = node.ids_begin; i < node.ids_end; ++i) mask.add(ids_[i]);
      ++at;
    }
  }

 private:
  struct Node {
    std::uint32_t behind = 0;     // the first node that is not below this one
    std::uint32_t ids_begin = 0;  // tokens that end here: in ids_
    std::uint32_t ids_end = 0;
    std::uint16_t depth = 0;
    std::uint8_t byte = 0;
  };
  std::vector<Node> nodes_;  // each before what is below it
  std::vector<TokenId> ids_;
  std::size_t tokens_ = 0;
  std::size_t longest_ = 0;
};

}  // namespace outlast::gpu
