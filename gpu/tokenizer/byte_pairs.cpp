#include "gpu/tokenizer/byte_pairs.hpp"

#include <algorithm>
#include <bit>
#include <string>
#include <unordered_map>

#include "core/check.hpp"

namespace outlast::gpu {
namespace {

// Up to here looking at every pair again costs less than a heap.
constexpr std::size_t short_word_max = 48;

}  // namespace

BytePairs::BytePairs(const TokenizerModel& model) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(model.tokens.size());
  for (TokenId id = 0; id < model.tokens.size(); ++id) {
    if (!model.tokens[id].empty()) ids.emplace(model.tokens[id], id);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char sign = static_cast<char>(byte);
    const auto at = ids.find(std::string_view(&sign, 1));
    check(at != ids.end(), "a byte-level vocabulary has every byte");
    bytes_[static_cast<std::size_t>(byte)] = at->second;
  }
  const std::size_t size = std::bit_ceil(std::max<std::size_t>(16, model.merges.size() * 2));
  table_.resize(size);
  shift_ = static_cast<unsigned>(64 - std::countr_zero(size));
  std::string both;
  for (std::uint32_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto [left, right] = model.merges[rank];
    both = model.tokens[left];
    both += model.tokens[right];
    const auto made = ids.find(both);
    check(made != ids.end(), "a merge makes a token of the vocabulary");
    const std::uint64_t pair = std::uint64_t{left} << 32 | right;
    std::size_t place = place_of(pair);
    while (table_[place].pair != no_pair) place = (place + 1) & (size - 1);
    table_[place] = {pair, rank, made->second};
  }
}

std::size_t BytePairs::place_of(std::uint64_t pair) const {
  return static_cast<std::size_t>((pair * 0x9E37'79B9'7F4A'7C15ULL) >> shift_);
}

const BytePairs::Entry* BytePairs::find(TokenId left, TokenId right) const {
  const std::uint64_t pair = std::uint64_t{left} << 32 | right;
  for (std::size_t place = place_of(pair);; place = (place + 1) & (table_.size() - 1)) {
    const Entry& entry = table_[place];
    if (entry.pair == pair) return &entry;
    if (entry.pair == no_pair) return nullptr;
  }
}

void BytePairs::merge(std::string_view word, std::vector<TokenId>& tokens, Scratch& scratch) const {
  if (word.size() <= short_word_max) merge_short(word, tokens);
  else merge_long(word, tokens, scratch);
}

void BytePairs::merge_short(std::string_view word, std::vector<TokenId>& tokens) const {
  std::array<TokenId, short_word_max> ids;
  std::array<const Entry*, short_word_max> pairs;  // of ids[i] and ids[i + 1]
  std::size_t size = word.size();
  for (std::size_t i = 0; i < size; ++i) ids[i] = bytes_[static_cast<std::uint8_t>(word[i])];
  for (std::size_t i = 0; i + 1 < size; ++i) pairs[i] = find(ids[i], ids[i + 1]);
  while (size > 1) {
    std::size_t best = size;
    for (std::size_t i = 0; i + 1 < size; ++i) {
      if (pairs[i] != nullptr && (best == size || pairs[i]->rank < pairs[best]->rank)) best = i;
    }
    if (best == size) break;
    ids[best] = pairs[best]->made;
    for (std::size_t i = best + 1; i + 1 < size; ++i) {
      ids[i] = ids[i + 1];
      pairs[i] = pairs[i + 1];
    }
    --size;
    if (best > 0) pairs[best - 1] = find(ids[best - 1], ids[best]);
    if (best + 1 < size) pairs[best] = find(ids[best], ids[best + 1]);
  }
  tokens.insert(tokens.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(size));
}

void BytePairs::merge_long(std::string_view word, std::vector<TokenId>& tokens, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  const auto size = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < size; ++i) {
    symbols.push_back({bytes_[static_cast<std::uint8_t>(word[static_cast<std::size_t>(i)])], i - 1, i + 1 < size ? i + 1 : -1, false});
  }
  const auto at = [&symbols](std::int32_t i) -> Scratch::Symbol& { return symbols[static_cast<std::size_t>(i)]; };
  const auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto offer = [&](std::int32_t left) {
    const std::int32_t right = left < 0 ? -1 : at(left).next;
    if (right < 0) return;
    const Entry* const entry = find(at(left).id, at(right).id);
    if (entry == nullptr) return;
    heap.push_back({entry->rank, left, entry->made, at(left).id, at(right).id});
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (std::int32_t i = 0; i + 1 < size; ++i) offer(i);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = at(best.left);
    if (left.gone || left.id != best.left_id || left.next < 0 || at(left.next).id != best.right_id) continue;
    Scratch::Symbol& right = at(left.next);
    right.gone = true;
    left.id = best.made;
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = best.left;
    offer(left.previous);
    offer(best.left);
  }
  for (std::int32_t i = 0; i >= 0; i = at(i).next) tokens.push_back(at(i).id);
}

}  // namespace outlast::gpu
