#include "gpu/tokenizer/tokenizer.hpp"

#include <algorithm>
#include <utility>

#include "gpu/gpu_error.hpp"
#include "gpu/tokenizer/unicode.hpp"

namespace outlast::gpu {
namespace {

// Words of natural text are short and few; others are not worth remembering.
constexpr std::size_t remembered_word_bytes_max = 32;
constexpr std::size_t remembered_words_max = 65'536;

// Cuts `text` at the added tokens that `finder` knows; what is between goes to `plain`.
template <class Finder, class Plain>
Result<void> at_added(const Finder& finder, std::string_view text, std::vector<TokenId>& tokens, const Plain& plain) {
  std::size_t from = 0;
  std::size_t place = 0;
  while (const AddedToken* token = finder.find(text, from, place)) {
    if (place > from) {
      if (Result<void> done = plain(text.substr(from, place - from)); !done) return done;
    }
    tokens.push_back(token->id);
    from = place + token->text.size();
  }
  return from < text.size() ? plain(text.substr(from)) : Result<void>();
}

}  // namespace

Tokenizer::Tokenizer(TokenizerModel model) : model_(std::move(model)), pairs_(model_) {
  texts_.resize(model_.size());
  special_.resize(model_.size());
  for (std::size_t id = 0; id < model_.tokens.size(); ++id) texts_[id] = model_.tokens[id];
  for (const AddedToken& token : model_.added) {
    texts_[token.id] = token.text;
    special_[token.id] = token.special;
    (token.normalized ? normalized_ : raw_).add(token);
  }
  if (!model_.ignore_merges) return;
  for (TokenId id = 0; id < model_.tokens.size(); ++id) {
    if (!model_.tokens[id].empty()) whole_words_.emplace(model_.tokens[id], id);
  }
}

void Tokenizer::Finder::add(const AddedToken& token) {
  empty = false;
  auto& list = by_byte[static_cast<std::uint8_t>(token.text.front())];
  list.push_back(&token);
  std::stable_sort(list.begin(), list.end(), [](const AddedToken* a, const AddedToken* b) { return a->text.size() > b->text.size(); });
}

const AddedToken* Tokenizer::Finder::find(std::string_view text, std::size_t from, std::size_t& place) const {
  if (empty) return nullptr;
  for (place = from; place < text.size(); ++place) {
    const auto& list = by_byte[static_cast<std::uint8_t>(text[place])];
    for (const AddedToken* token : list) {
      if (text.substr(place).starts_with(token->text)) return token;
    }
  }
  return nullptr;
}

std::optional<TokenId> Tokenizer::added(std::string_view text) const {
  const auto at = std::find_if(model_.added.begin(), model_.added.end(), [text](const AddedToken& token) { return token.text == text; });
  if (at == model_.added.end()) return std::nullopt;
  return at->id;
}

std::string Tokenizer::decode(std::span<const TokenId> tokens, bool with_special) const {
  std::string bytes;
  for (const TokenId id : tokens) {
    if (with_special || !is_special(id)) bytes += bytes_of(id);
  }
  std::string copy;
  const std::string_view valid = valid_utf8(bytes, copy);
  return valid.data() == copy.data() ? copy : bytes;
}

TokenEncoder::TokenEncoder(std::shared_ptr<const Tokenizer> tokenizer, std::unique_ptr<WordSplitter> splitter)
    : tokenizer_(std::move(tokenizer)), splitter_(std::move(splitter)) {}

Result<std::unique_ptr<TokenEncoder>> TokenEncoder::make(std::shared_ptr<const Tokenizer> tokenizer) {
  auto splitter = WordSplitter::make(tokenizer->model().pattern);
  if (!splitter) return fail(std::move(splitter.error()));
  return std::unique_ptr<TokenEncoder>(new TokenEncoder(std::move(tokenizer), std::move(*splitter)));
}

Result<void> TokenEncoder::encode(std::string_view text, Added added, std::vector<TokenId>& tokens) {
  if (text.size() > encoded_text_bytes_max)
    return fail(GpuError::too_large, "a text of " + std::to_string(text.size()) + " bytes; at most " +
                                         std::to_string(encoded_text_bytes_max) + " are encoded at once");
  const std::string_view valid = valid_utf8(text, valid_);
  if (added == Added::text) {
    return encode_plain(tokenizer_->model().nfc ? nfc(valid, normal_) : valid, tokens);
  }
  return at_added(tokenizer_->raw_, valid, tokens, [this, &tokens](std::string_view part) -> Result<void> {
    const std::string_view normal = tokenizer_->model().nfc ? nfc(part, normal_) : part;
    return at_added(tokenizer_->normalized_, normal, tokens,
                    [this, &tokens](std::string_view plain) { return encode_plain(plain, tokens); });
  });
}

Result<void> TokenEncoder::encode_plain(std::string_view text, std::vector<TokenId>& tokens) {
  words_.clear();
  if (Result<void> split = splitter_->split(text, words_); !split) return split;
  for (const std::string_view word : words_) encode_word(word, tokens);
  return {};
}

void TokenEncoder::encode_word(std::string_view word, std::vector<TokenId>& tokens) {
  if (tokenizer_->model_.ignore_merges) {
    if (const auto whole = tokenizer_->whole_words_.find(word); whole != tokenizer_->whole_words_.end()) {
      tokens.push_back(whole->second);
      return;
    }
  }
  if (word.size() > remembered_word_bytes_max) return tokenizer_->pairs_.merge(word, tokens, scratch_);
  if (const auto known = remembered_.find(word); known != remembered_.end()) {
    const auto from = remembered_tokens_.begin() + known->second.begin;
    tokens.insert(tokens.end(), from, from + known->second.size);
    return;
  }
  const std::size_t before = tokens.size();
  tokenizer_->pairs_.merge(word, tokens, scratch_);
  if (remembered_.size() == remembered_words_max) {
    remembered_.clear();
    remembered_tokens_.clear();
  }
  remembered_.emplace(word, Remembered{static_cast<std::uint32_t>(remembered_tokens_.size()), static_cast<std::uint32_t>(tokens.size() - before)});
  remembered_tokens_.insert(remembered_tokens_.end(), tokens.begin() + static_cast<std::ptrdiff_t>(before), tokens.end());
}

std::string TokenStream::push(TokenId id) {
  if (tokenizer_->is_special(id)) return {};
  held_ += tokenizer_->bytes_of(id);
  const std::size_t unfinished = unfinished_utf8(held_);
  std::string whole = held_.substr(0, held_.size() - unfinished);
  held_.erase(0, held_.size() - unfinished);
  std::string copy;
  const std::string_view valid = valid_utf8(whole, copy);
  return valid.data() == copy.data() ? copy : whole;
}

std::string TokenStream::finish() {
  std::string copy;
  const std::string left = std::exchange(held_, {});
  return std::string(valid_utf8(left, copy));
}

}  // namespace outlast::gpu
