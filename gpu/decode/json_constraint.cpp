#include "gpu/decode/json_constraint.hpp"

#include <utility>

#include "core/check.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t masks_bytes_max = 16U << 20;  // of one schema

}  // namespace

class JsonConstraint final : public Constraint {
 public:
  explicit JsonConstraint(JsonTexts& texts) : texts_(texts), state_(texts.grammar_->start()) {}

  const TokenMask& allowed() override {
    if (!mask_) mask_ = texts_.mask_of(state_);
    return *mask_;
  }
  [[nodiscard]] bool may_end() const override { return JsonGrammar::complete(state_); }
  void advance(TokenId token) override {
    for (const char byte : texts_.tokenizer_->bytes_of(token)) {
      const bool went = texts_.grammar_->step(state_, static_cast<std::uint8_t>(byte), next_);
      check(went, "a token that comes was allowed");
      std::swap(state_, next_);
    }
    mask_ = nullptr;
  }

 private:
  JsonTexts& texts_;
  JsonState state_;
  JsonState next_;
  JsonTexts::Mask mask_;  // of the state, once it was asked for
};

JsonTexts::JsonTexts(std::shared_ptr<const JsonGrammar> grammar, std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const TokenTrie> trie)
    : grammar_(std::move(grammar)), tokenizer_(std::move(tokenizer)), trie_(std::move(trie)), path_(trie_->longest() + 1) {}

std::unique_ptr<Constraint> JsonTexts::start() { return std::make_unique<JsonConstraint>(*this); }

JsonTexts::Mask JsonTexts::mask_of(const JsonState& state) {
  grammar_->key_of(state, trie_->longest(), key_);
  if (const auto known = masks_.find(key_); known != masks_.end()) return known->second;
  auto mask = std::make_shared<TokenMask>(trie_->tokens());
  path_[0] = state;
  trie_->walk([this](std::size_t depth, std::uint8_t byte) { return grammar_->step(path_[depth], byte, path_[depth + 1]); }, *mask);
  // States come back in one answer after the other: what was thrown away is soon there again.
  if (masks_.size() * (trie_->tokens() / 8 + 1) >= masks_bytes_max) masks_.clear();
  return masks_.emplace(key_, std::move(mask)).first->second;
}

}  // namespace outlast::gpu
