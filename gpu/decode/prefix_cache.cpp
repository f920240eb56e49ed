#include "gpu/decode/prefix_cache.hpp"

#include <algorithm>

#include "core/check.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu {
namespace {

std::optional<PageId> last_of(const PrefixPlace& place) { return place.pages == 0 ? std::nullopt : std::optional(place.last); }

}  // namespace

PrefixCache::PrefixCache(KvPages& pages, std::size_t page_rows) : pages_(pages), page_rows_(page_rows), entries_(pages.count()) {}

std::uint64_t PrefixCache::hash_of(std::uint64_t before, std::span<const TokenId> tokens) const {
  std::uint64_t hash = mixed(before + 1);
  for (const TokenId token : tokens) hash = mixed(hash ^ token);
  return hash;
}

std::optional<PageId> PrefixCache::known(std::uint64_t hash, const PrefixPlace& place, std::span<const TokenId> tokens) const {
  const auto at = by_hash_.find(hash);
  if (at == by_hash_.end()) return std::nullopt;
  const Entry& entry = entries_[at->second];
  if (entry.before != last_of(place) || !std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin(), tokens.end())) return std::nullopt;
  return at->second;
}

PrefixPlace PrefixCache::find(std::span<const TokenId> tokens, std::vector<PageId>& found) {
  PrefixPlace place;
  ++clock_;
  for (; tokens.size() >= page_rows_; tokens = tokens.subspan(page_rows_)) {
    const auto page_tokens = tokens.first(page_rows_);
    const std::uint64_t hash = hash_of(place.hash, page_tokens);
    const auto page = known(hash, place, page_tokens);
    if (!page) break;
    entries_[*page].used = clock_;
    pages_.hold(*page);
    found.push_back(*page);
    place = {place.pages + 1, hash, *page};
  }
  return place;
}

std::optional<PageId> PrefixCache::add(PrefixPlace& place, std::span<const TokenId> tokens, PageId page) {
  check(tokens.size() == page_rows_, "a page that becomes known is full");
  const std::uint64_t hash = hash_of(place.hash, tokens);
  if (const auto same = known(hash, place, tokens)) {
    entries_[*same].used = ++clock_;
    if (*same != page) {
      pages_.hold(*same);
      pages_.drop(page);
    }
    place = {place.pages + 1, hash, *same};
    return same;
  }
  Entry& entry = entries_[page];
  check(entry.tokens.empty(), "a page that becomes known was not");
  if (!by_hash_.emplace(hash, page).second) return std::nullopt;
  entry.hash = hash;
  entry.before = last_of(place);
  entry.followers = 0;
  entry.used = ++clock_;
  entry.tokens.assign(tokens.begin(), tokens.end());
  if (entry.before) ++entries_[*entry.before].followers;
  pages_.hold(page);
  place = {place.pages + 1, hash, page};
  return page;
}

// Whoever uses a page uses those before it: the one that was not used for longest is the last of its chain, or as old as that.
bool PrefixCache::evict() {
  std::optional<PageId> oldest;
  for (PageId page = 0; page < entries_.size(); ++page) {
    const Entry& entry = entries_[page];
    if (entry.tokens.empty() || entry.followers > 0 || pages_.holders(page) > 1) continue;
    if (!oldest || entry.used < entries_[*oldest].used) oldest = page;
  }
  if (!oldest) return false;
  Entry& entry = entries_[*oldest];
  if (entry.before) --entries_[*entry.before].followers;
  by_hash_.erase(entry.hash);
  entry.tokens.clear();
  pages_.drop(*oldest);
  return true;
}

std::size_t PrefixCache::evictable() const {
  std::size_t count = 0;
  for (PageId page = 0; page < entries_.size(); ++page) {
    if (!entries_[page].tokens.empty() && pages_.holders(page) == 1) ++count;
  }
  return count;
}

}  // namespace outlast::gpu
