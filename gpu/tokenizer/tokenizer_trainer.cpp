#include "gpu/tokenizer/tokenizer_trainer.hpp"

#include <algorithm>
#include <numeric>
#include <queue>
#include <utility>

#include "gpu/gpu_error.hpp"
#include "gpu/tokenizer/byte_alphabet.hpp"
#include "gpu/tokenizer/unicode.hpp"

namespace outlast::gpu {
namespace {

constexpr std::size_t words_bytes_max = 4ULL << 30;
constexpr std::size_t word_overhead_bytes = 64;
constexpr std::size_t progress_every = 256;

using Pair = std::pair<TokenId, TokenId>;
struct PairHash {
  std::size_t operator()(const Pair& pair) const {
    return static_cast<std::size_t>((std::uint64_t{pair.first} << 32 | pair.second) * 0x9E37'79B9'7F4A'7C15ULL);
  }
};

struct Word {
  std::vector<TokenId> symbols;
  std::int64_t count = 0;
};

struct Candidate {
  std::int64_t count = 0;
  Pair pair;
  // The most frequent first; of equal ones the pair of the smaller ids.
  bool operator<(const Candidate& other) const { return count != other.count ? count < other.count : pair > other.pair; }
};

// Byte-pair encoding's training loop (Sennrich et al. 2016): merge the most frequent pair, again and again, where only
// the words that have it are looked at.
class Merger {
 public:
  explicit Merger(std::vector<Word> words) : words_(std::move(words)) {
    for (std::size_t at = 0; at < words_.size(); ++at) {
      const auto& symbols = words_[at].symbols;
      for (std::size_t i = 0; i + 1 < symbols.size(); ++i) count(at, {symbols[i], symbols[i + 1]}, words_[at].count);
    }
    for (const auto& [pair, found] : pairs_) queue_.push({found.count, pair});
  }

  // The pair to merge next; false when none is as frequent as `count_min`.
  bool next(std::uint64_t count_min, Pair& pair) {
    while (!queue_.empty()) {
      const Candidate best = queue_.top();
      queue_.pop();
      const std::int64_t now = pairs_[best.pair].count;
      if (now != best.count) {
        if (now > 0) queue_.push({now, best.pair});
        continue;
      }
      if (now < static_cast<std::int64_t>(std::max<std::uint64_t>(count_min, 1))) return false;
      pair = best.pair;
      return true;
    }
    return false;
  }

  void merge(const Pair& pair, TokenId made) {
    changed_.clear();
    std::vector<std::uint32_t> places = std::move(pairs_[pair].words);
    std::sort(places.begin(), places.end());
    places.erase(std::unique(places.begin(), places.end()), places.end());
    for (const std::uint32_t at : places) merge_in(at, pair, made);
    pairs_.erase(pair);
    for (const Pair& other : changed_) {
      const auto found = pairs_.find(other);
      if (found != pairs_.end() && found->second.count > 0) queue_.push({found->second.count, other});
    }
  }

 private:
  struct Found {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // that had it once
  };

  void count(std::size_t word, const Pair& pair, std::int64_t by) {
    Found& found = pairs_[pair];
    found.count += by;
    if (by > 0) found.words.push_back(static_cast<std::uint32_t>(word));
  }

  // In one pass: what is left of `kept` is merged.
  void merge_in(std::uint32_t at, const Pair& pair, TokenId made) {
    Word& word = words_[at];
    auto& symbols = word.symbols;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < symbols.size();) {
      if (i + 1 == symbols.size() || symbols[i] != pair.first || symbols[i + 1] != pair.second) {
        symbols[kept++] = symbols[i++];
        continue;
      }
      if (kept > 0) {
        count(at, {symbols[kept - 1], pair.first}, -word.count);
        count(at, {symbols[kept - 1], made}, word.count);
        changed_.emplace_back(symbols[kept - 1], made);
      }
      if (i + 2 < symbols.size()) {
        count(at, {pair.second, symbols[i + 2]}, -word.count);
        count(at, {made, symbols[i + 2]}, word.count);
        changed_.emplace_back(made, symbols[i + 2]);
      }
      symbols[kept++] = made;
      i += 2;
    }
    symbols.resize(kept);
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Found, PairHash> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> changed_;
};

// The bytes' ids, in the order of their letters, as the `tokenizers` library numbers them.
std::vector<std::string> byte_tokens() {
  std::vector<int> bytes(256);
  std::iota(bytes.begin(), bytes.end(), 0);
  std::sort(bytes.begin(), bytes.end(), [](int a, int b) { return letter_of(static_cast<std::uint8_t>(a)) < letter_of(static_cast<std::uint8_t>(b)); });
  std::vector<std::string> tokens;
  for (const int byte : bytes) tokens.emplace_back(1, static_cast<char>(byte));
  return tokens;
}

}  // namespace

std::vector<AddedToken> chat_tokens() {
  return {{0, "<|endoftext|>", true, false}, {0, "<|im_start|>", true, false}, {0, "<|im_end|>", true, false},
          {0, "<think>", false, false},      {0, "</think>", false, false}};
}

TokenizerTrainer::TokenizerTrainer(TrainerOptions options, std::unique_ptr<WordSplitter> splitter)
    : options_(std::move(options)), splitter_(std::move(splitter)) {}

Result<std::unique_ptr<TokenizerTrainer>> TokenizerTrainer::make(TrainerOptions options) {
  if (options.vocabulary < 256 || options.vocabulary > vocabulary_max - added_tokens_max)
    return fail(GpuError::invalid, "a vocabulary has 256 tokens (the bytes) to " + std::to_string(vocabulary_max - added_tokens_max));
  auto splitter = WordSplitter::make(options.pattern);
  if (!splitter) return fail(std::move(splitter.error()));
  return std::unique_ptr<TokenizerTrainer>(new TokenizerTrainer(std::move(options), std::move(*splitter)));
}

Result<void> TokenizerTrainer::add(std::string_view text) {
  std::string valid;
  std::string normal;
  std::vector<std::string_view> words;
  if (Result<void> split = splitter_->split(nfc(valid_utf8(text, valid), normal), words); !split) return split;
  for (const std::string_view word : words) {
    const auto [at, first] = words_.try_emplace(std::string(word), 0);
    ++at->second;
    if (!first) continue;
    bytes_ += word.size() * sizeof(TokenId) + word_overhead_bytes;
    if (bytes_ > words_bytes_max)
      return fail(GpuError::too_large, "the text has more different words than are kept (" + std::to_string(words_bytes_max >> 30) + " GiB); train on a sample");
  }
  return {};
}

TokenizerModel TokenizerTrainer::finish(const std::function<void(std::size_t, std::size_t)>& progress) {
  TokenizerModel model;
  model.pattern = options_.pattern;
  model.tokens = byte_tokens();
  std::unordered_map<std::string, TokenId> ids;
  for (TokenId id = 0; id < model.tokens.size(); ++id) ids.emplace(model.tokens[id], id);
  std::vector<Word> words;
  words.reserve(words_.size());
  for (const auto& [text, count] : words_) {
    Word word{{}, static_cast<std::int64_t>(count)};
    for (const char byte : text) word.symbols.push_back(ids.at(std::string(1, byte)));
    words.push_back(std::move(word));
  }
  words_.clear();
  Merger merger(std::move(words));
  Pair pair;
  while (model.tokens.size() < options_.vocabulary && merger.next(options_.count_min, pair)) {
    std::string bytes = model.tokens[pair.first] + model.tokens[pair.second];
    // Another pair may have made the same bytes before.
    const auto [at, is_new] = ids.try_emplace(bytes, static_cast<TokenId>(model.tokens.size()));
    if (is_new) model.tokens.push_back(std::move(bytes));
    model.merges.push_back(pair);
    merger.merge(pair, at->second);
    if (progress && model.merges.size() % progress_every == 0) progress(model.merges.size(), options_.vocabulary - 256);
  }
  model.added = options_.added;
  TokenId next = static_cast<TokenId>(model.tokens.size());
  for (AddedToken& token : model.added) token.id = next++;
  return model;
}

}  // namespace outlast::gpu
