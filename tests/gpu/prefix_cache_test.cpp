#include <map>
#include <random>
#include <set>

#include <catch2/catch.hpp>

#include "gpu/decode/prefix_cache.hpp"

namespace outlast::gpu::prefix_cache_test {
namespace {

TEST_CASE("pages are taken, shared and given back", "[gpu][decode]") {
  KvPages pages(3);
  const PageId one = *pages.take();
  const PageId two = *pages.take();
  const PageId three = *pages.take();
  CHECK(std::set<PageId>{one, two, three}.size() == 3);
  CHECK_FALSE(pages.take());
  pages.hold(two);
  pages.drop(two);
  CHECK(pages.free() == 0);
  pages.drop(two);
  CHECK(pages.free() == 1);
  CHECK(*pages.take() == two);
}

constexpr std::size_t page_rows = 2;
using Tokens = std::vector<TokenId>;

struct Cache {
  KvPages pages{6};
  PrefixCache prefixes{pages, page_rows};

  // Pages for all full pages of `tokens`, as a request would make them.
  std::vector<PageId> compute(const Tokens& tokens) {
    std::vector<PageId> held;
    PrefixPlace place = prefixes.find(tokens, held);
    for (std::size_t at = place.pages * page_rows; at + page_rows <= tokens.size(); at += page_rows) {
      auto page = pages.take();
      if (!page && prefixes.evict()) page = pages.take();
      REQUIRE(page);
      held.push_back(*prefixes.add(place, std::span(tokens).subspan(at, page_rows), *page));
    }
    return held;
  }
  void drop(const std::vector<PageId>& held) {
    for (const PageId page : held) pages.drop(page);
  }
  std::size_t known(const Tokens& tokens) {
    std::vector<PageId> held;
    const std::size_t count = prefixes.find(tokens, held).pages;
    drop(held);
    return count;
  }
};

TEST_CASE("a prefix is found as far as its tokens are the same", "[gpu][decode]") {
  Cache cache;
  const auto held = cache.compute({1, 2, 3, 4, 5});
  CHECK(held.size() == 2);
  CHECK(cache.known({1, 2, 3, 4, 9}) == 2);
  CHECK(cache.known({1, 2, 3, 9}) == 1);
  CHECK(cache.known({1, 2, 3}) == 1);
  CHECK(cache.known({3, 4}) == 0);  // the same tokens elsewhere are another page
  CHECK(cache.known({2, 1}) == 0);
  CHECK(cache.compute({1, 2, 3, 4}) == held);
}

TEST_CASE("a page that two computed at once is kept once", "[gpu][decode]") {
  Cache cache;
  PrefixPlace first;
  PrefixPlace second;
  const Tokens tokens{1, 2};
  const PageId one = *cache.pages.take();
  const PageId two = *cache.pages.take();
  CHECK(*cache.prefixes.add(first, tokens, one) == one);
  CHECK(*cache.prefixes.add(second, tokens, two) == one);
  CHECK(first == second);
  CHECK(cache.pages.holders(one) == 3);
  CHECK(cache.pages.holders(two) == 0);
}

TEST_CASE("the page not used for longest goes first, its followers before it, and none that is held", "[gpu][decode]") {
  Cache cache;
  const auto a = cache.compute({1, 2, 3, 4});
  const auto b = cache.compute({5, 6});
  CHECK(cache.prefixes.evictable() == 0);
  CHECK_FALSE(cache.prefixes.evict());
  cache.drop(a);
  CHECK(cache.prefixes.evictable() == 2);
  CHECK(cache.prefixes.evict());
  CHECK(cache.known({1, 2, 3, 4}) == 1);  // its end went
  cache.drop(b);
  CHECK(cache.known({1, 2}) == 1);
  CHECK(cache.prefixes.evict());
  CHECK(cache.known({5, 6}) == 0);
  CHECK(cache.prefixes.evict());
  CHECK_FALSE(cache.prefixes.evict());
  CHECK(cache.pages.free() == 6);
}

TEST_CASE("pages are never lost, whatever comes and goes", "[gpu][decode]") {
  std::mt19937 random(1);
  Cache cache;
  std::vector<std::vector<PageId>> held;
  std::size_t count = 0;
  for (int round = 0; round < 5'000; ++round) {
    if (count + 3 <= 6 && random() % 2 == 0) {
      Tokens tokens(1 + random() % 6);
      for (TokenId& token : tokens) token = random() % 2;
      held.push_back(cache.compute(tokens));
      CHECK(cache.known(tokens) == tokens.size() / page_rows);
      count += held.back().size();
    } else if (!held.empty()) {
      const std::size_t at = random() % held.size();
      cache.drop(held[at]);
      count -= held[at].size();
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::map<PageId, std::uint32_t> holders;
    for (const auto& pages : held) {
      for (const PageId page : pages) ++holders[page];
    }
    std::size_t used = 0;
    for (PageId page = 0; page < 6; ++page) {
      const std::uint32_t by_cache = cache.pages.holders(page) - holders[page];
      REQUIRE(by_cache <= 1);
      used += cache.pages.holders(page) > 0 ? 1 : 0;
    }
    REQUIRE(cache.pages.free() == 6 - used);
    REQUIRE(cache.prefixes.size() <= used);
  }
}

}  // namespace
}  // namespace outlast::gpu::prefix_cache_test
