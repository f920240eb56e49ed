// JsonConstraint: the answer is a JSON text that a schema allows.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "core/result.hpp"
#include "gpu/decode/constraint.hpp"
#include "gpu/decode/json_grammar.hpp"
#include "gpu/decode/json_schema.hpp"
#include "gpu/decode/token_trie.hpp"

namespace outlast::gpu {

// A schema over one vocabulary, and the masks of the states that its answers went through: answers of one schema share them.
// One owner, who owns the answers' constraints too.
class JsonTexts {
 public:
  // `tokenizer` is the one that `trie` is of.
  JsonTexts(std::shared_ptr<const JsonGrammar> grammar, std::shared_ptr<const Tokenizer> tokenizer, std::shared_ptr<const TokenTrie> trie);
  JsonTexts(const JsonTexts&) = delete;
  JsonTexts& operator=(const JsonTexts&) = delete;

  // A constraint that this outlives.
  std::unique_ptr<Constraint> start();

 private:
  friend class JsonConstraint;
  using Mask = std::shared_ptr<const TokenMask>;
  Mask mask_of(const JsonState& state);

  const std::shared_ptr<const JsonGrammar> grammar_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::shared_ptr<const TokenTrie> trie_;
  std::vector<JsonState> path_;  // after so many bytes of the token at hand
  std::unordered_map<std::string, Mask> masks_;
  std::string key_;
};

}  // namespace outlast::gpu
