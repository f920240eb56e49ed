// PrefixCache: full pages of keys and values by the tokens that they were made from, so that what begins as an earlier sequence
// did is not computed again. A page is found by a hash of all tokens up to its end, and then its tokens are compared: pages of
// two sequences are never taken for each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "gpu/decode/kv_pages.hpp"
#include "gpu/tokenizer/tokenizer_model.hpp"

namespace outlast::gpu {

// How far a sequence's pages are known to the cache.
struct PrefixPlace {
  std::size_t pages = 0;
  std::uint64_t hash = 0;        // of the tokens of these
  PageId last = 0;               // where pages > 0
  bool operator==(const PrefixPlace&) const = default;
};

// One owner. Holds each of its pages once; whoever found one holds it too, and it stays as long as that.
class PrefixCache {
 public:
  // `pages` outlives it.
  PrefixCache(KvPages& pages, std::size_t page_rows);
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // Appends the pages that begin `tokens` to `found`, each held for the caller.
  PrefixPlace find(std::span<const TokenId> tokens, std::vector<PageId>& found);
  // Makes known the page that follows `place`, computed from `tokens` (as many as a page has rows); `place` moves on. The page,
  // or that which is known already for the same tokens: then this is held in place of the given one. No value, and nothing
  // changed, where another has its hash.
  std::optional<PageId> add(PrefixPlace& place, std::span<const TokenId> tokens, PageId page);
  // Gives back the page that was not used for longest, of those that nobody else holds. False where there is none.
  bool evict();
  // Of all pages, those that evict() could give back one after the other.
  [[nodiscard]] std::size_t evictable() const;
  [[nodiscard]] std::size_t size() const { return by_hash_.size(); }

 private:
  struct Entry {
    std::uint64_t hash = 0;
    std::optional<PageId> before;  // the page that it follows
    std::size_t followers = 0;     // known pages that follow it: it goes after these
    std::uint64_t used = 0;        // on clock_
    std::vector<TokenId> tokens;   // empty: the page is not known
  };
  [[nodiscard]] std::uint64_t hash_of(std::uint64_t before, std::span<const TokenId> tokens) const;
  // The known page of `hash` that follows `place` with these tokens.
  [[nodiscard]] std::optional<PageId> known(std::uint64_t hash, const PrefixPlace& place, std::span<const TokenId> tokens) const;

  KvPages& pages_;
  const std::size_t page_rows_;
  std::vector<Entry> entries_;  // by page
  std::unordered_map<std::uint64_t, PageId> by_hash_;
  std::uint64_t clock_ = 0;
};

}  // namespace outlast::gpu
