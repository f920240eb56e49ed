// TokenizerModel: what a byte-level BPE's tokenizer.json says, as plain data; and reading and writing that file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.hpp"
#include "gpu/tokenizer/word_splitter.hpp"

namespace outlast::gpu {

using TokenId = std::uint32_t;

inline constexpr std::size_t tokenizer_file_bytes_max = 256U << 20;
inline constexpr std::size_t vocabulary_max = 1'000'000;
inline constexpr std::size_t added_tokens_max = 4'096;
inline constexpr std::size_t token_bytes_max = 1'024;

// A token that is found in text as it stands, before anything is split or merged.
struct AddedToken {
  TokenId id = 0;
  std::string text;
  bool special = false;     // marks structure: decoding can leave it out
  bool normalized = false;  // looked for in the text's normal form
  bool operator==(const AddedToken&) const = default;
};

struct TokenizerModel {
  std::vector<std::string> tokens;  // bytes by id; of added tokens beyond the vocabulary and of holes: empty
  std::vector<std::pair<TokenId, TokenId>> merges;  // in order of their rank
  std::vector<AddedToken> added;
  std::string pattern{qwen_split_pattern};
  bool nfc = true;             // brings text into this form first
  bool ignore_merges = false;  // a word that is a token as a whole is taken as that

  // One more than the largest id.
  [[nodiscard]] std::size_t size() const;
  bool operator==(const TokenizerModel&) const = default;
};

// Errors: malformed and unsupported, naming the key. Whatever this build would encode otherwise than the file means is
// refused.
Result<TokenizerModel> parse_tokenizer(std::string_view json);
Result<TokenizerModel> load_tokenizer(const std::string& path);

// Loads in the `tokenizers` and `transformers` libraries as it is.
std::string tokenizer_json(const TokenizerModel& model);

}  // namespace outlast::gpu
