#include "gpu/decode/token_trie.hpp"

#include <algorithm>

namespace outlast::gpu {

TokenTrie::TokenTrie(const Tokenizer& tokenizer) : tokens_(tokenizer.size()) {
  const auto& texts = tokenizer.model().tokens;
  std::vector<bool> added(tokens_);
  for (const AddedToken& token : tokenizer.model().added) added[token.id] = true;
  for (TokenId id = 0; id < texts.size(); ++id) {
    if (!texts[id].empty() && !added[id]) ids_.push_back(id);
  }
  std::sort(ids_.begin(), ids_.end(), [&texts](TokenId a, TokenId b) { return texts[a] != texts[b] ? texts[a] < texts[b] : a < b; });
  std::vector<std::uint32_t> path;  // from the root to the last token's node
  const auto close = [this, &path](std::size_t depth) {
    for (; path.size() > depth; path.pop_back()) nodes_[path.back()].behind = static_cast<std::uint32_t>(nodes_.size());
  };
  std::string_view last;
  for (std::uint32_t i = 0; i < ids_.size(); ++i) {
    const std::string_view text = texts[ids_[i]];
    const auto same = static_cast<std::size_t>(std::mismatch(last.begin(), last.end(), text.begin(), text.end()).first - last.begin());
    close(same);
    for (std::size_t depth = same; depth < text.size(); ++depth) {
      path.push_back(static_cast<std::uint32_t>(nodes_.size()));
      nodes_.push_back({0, i, i, static_cast<std::uint16_t>(depth), static_cast<std::uint8_t>(text[depth])});
    }
    nodes_[path.back()].ids_end = i + 1;
    longest_ = std::max(longest_, text.size());
    last = text;
  }
  close(0);
}

}  // namespace outlast::gpu
