#include "gpu/decode/label_constraint.hpp"

#include <unordered_set>

#include "core/check.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {

class LabelConstraint final : public Constraint {
 public:
  explicit LabelConstraint(std::shared_ptr<const LabelSet> set) : set_(std::move(set)), mask_(set_->trie_->tokens()), places_(set_->trie_->longest() + 1) {}

  const TokenMask& allowed() override {
    if (known_) return mask_;
    known_ = true;
    mask_.clear();
    places_[0] = place_;
    set_->trie_->walk(
        [this](std::size_t depth, std::uint8_t byte) {
          const auto next = set_->labels_.next(places_[depth], byte);
          if (next) places_[depth + 1] = *next;
          return next.has_value();
        },
        mask_);
    return mask_;
  }
  [[nodiscard]] bool may_end() const override { return set_->labels_.is_word(place_); }
  void advance(TokenId token) override {
    known_ = false;
    for (const char byte : set_->tokenizer_->bytes_of(token)) {
      const auto next = set_->labels_.next(place_, static_cast<std::uint8_t>(byte));
      check(next.has_value(), "a token that comes was allowed");
      place_ = *next;
    }
  }

 private:
  const std::shared_ptr<const LabelSet> set_;
  TokenMask mask_;
  bool known_ = false;  // whether mask_ is of this place
  std::vector<ByteTrie::Place> places_;  // after so many bytes of the token at hand
  ByteTrie::Place place_ = ByteTrie::root;
};

Result<std::shared_ptr<const LabelSet>> LabelSet::make(const std::vector<std::string>& labels, std::shared_ptr<const Tokenizer> tokenizer,
                                                       std::shared_ptr<const TokenTrie> trie) {
  if (labels.empty()) return fail(GpuError::invalid, "there is no label to choose");
  if (labels.size() > labels_max) return fail(GpuError::too_large, std::to_string(labels.size()) + " labels; at most " + std::to_string(labels_max));
  ByteTrie words;
  std::unordered_set<std::string_view> seen;
  std::size_t bytes = 0;
  for (const std::string& label : labels) {
    if (label.empty()) return fail(GpuError::invalid, "a label is empty");
    if (!seen.insert(label).second) return fail(GpuError::invalid, "the label '" + label + "' stands there twice");
    bytes += label.size();
    if (bytes > labels_bytes_max) return fail(GpuError::too_large, "the labels have more than " + std::to_string(labels_bytes_max) + " bytes");
    words.add(label);
  }
  return std::shared_ptr<const LabelSet>(new LabelSet(std::move(words), std::move(tokenizer), std::move(trie)));
}

std::unique_ptr<Constraint> LabelSet::start(std::shared_ptr<const LabelSet> labels) { return std::make_unique<LabelConstraint>(std::move(labels)); }

}  // namespace outlast::gpu
