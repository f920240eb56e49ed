// Tokenizer: text to token ids and back, for byte-level BPE models; the same ids as the `tokenizers` library gives.
//
// A Tokenizer is immutable and shared; each thread that encodes has a TokenEncoder, which remembers words it has seen, and
// each answer that is streamed a TokenStream, which lets only whole characters out.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/result.hpp"
#include "gpu/tokenizer/byte_pairs.hpp"
#include "gpu/tokenizer/tokenizer_model.hpp"

namespace outlast::gpu {

inline constexpr std::size_t encoded_text_bytes_max = 64U << 20;  // of one call: its normal form and its symbols take some 50 times as much

// Any thread.
class Tokenizer {
 public:
  explicit Tokenizer(TokenizerModel model);
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  [[nodiscard]] const TokenizerModel& model() const { return model_; }
  // One more than the largest id.
  [[nodiscard]] std::size_t size() const { return texts_.size(); }
  // The id of an added token; no value where there is none of that text.
  [[nodiscard]] std::optional<TokenId> added(std::string_view text) const;
  // The bytes that a token stands for; empty for ids that are no token's.
  [[nodiscard]] std::string_view bytes_of(TokenId id) const { return id < texts_.size() ? texts_[id] : std::string_view(); }
  [[nodiscard]] bool is_special(TokenId id) const { return id < special_.size() && special_[id]; }

  // The text of tokens, with U+FFFD for what is no character. `with_special`: special tokens by their texts; else without.
  [[nodiscard]] std::string decode(std::span<const TokenId> tokens, bool with_special) const;

 private:
  friend class TokenEncoder;
  // Added tokens by their first byte, the longest first.
  struct Finder {
    std::array<std::vector<const AddedToken*>, 256> by_byte;
    bool empty = true;
    void add(const AddedToken& token);
    // The first that stands in `text` at or after `from`, of those at the same place the longest.
    [[nodiscard]] const AddedToken* find(std::string_view text, std::size_t from, std::size_t& place) const;
  };

  const TokenizerModel model_;
  const BytePairs pairs_;
  std::vector<std::string_view> texts_;  // by id
  std::vector<bool> special_;
  Finder raw_;         // of the text as it is
  Finder normalized_;  // of its normal form
  std::unordered_map<std::string_view, TokenId> whole_words_;  // with ignore_merges
};

// One owner.
class TokenEncoder {
 public:
  // Errors: as of WordSplitter::make().
  static Result<std::unique_ptr<TokenEncoder>> make(std::shared_ptr<const Tokenizer> tokenizer);

  // Whether texts of added tokens become these tokens (a template) or are text like any other (what a user wrote, which
  // must not be able to end a turn).
  enum class Added { tokens, text };
  // Appends the tokens of `text`; what is not UTF-8 in it counts as U+FFFD. Errors: too_large.
  Result<void> encode(std::string_view text, Added added, std::vector<TokenId>& tokens);

 private:
  struct Remembered {
    std::uint32_t begin = 0;  // in words_tokens_
    std::uint32_t size = 0;
  };
  TokenEncoder(std::shared_ptr<const Tokenizer> tokenizer, std::unique_ptr<WordSplitter> splitter);
  Result<void> encode_plain(std::string_view text, std::vector<TokenId>& tokens);
  void encode_word(std::string_view word, std::vector<TokenId>& tokens);

  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::unique_ptr<WordSplitter> splitter_;
  std::vector<std::string_view> words_;  // scratch, as are the next
  std::string valid_;
  std::string normal_;
  BytePairs::Scratch scratch_;
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, Remembered, Hash, std::equal_to<>> remembered_;
  std::vector<TokenId> remembered_tokens_;
};

// One answer on its way out. One owner.
class TokenStream {
 public:
  explicit TokenStream(std::shared_ptr<const Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}

  // The text that is certain once `id` has come: never a part of a character. Special tokens give none.
  std::string push(TokenId id);
  // What is left: U+FFFD for a character that was begun and never ended.
  std::string finish();

 private:
  const std::shared_ptr<const Tokenizer> tokenizer_;
  std::string held_;  // bytes that may become a character
};

}  // namespace outlast::gpu
