#include <catch2/catch.hpp>

#include "core/price_book.hpp"
#include "core/random.hpp"

using outlast::PicoUsd;
using outlast::Price;
using outlast::PriceBook;
using outlast::Random;
using outlast::Usage;
using outlast::usage_bucket_count;
using outlast::usage_buckets;

TEST_CASE("a cost is the sum of every bucket at its own price and the price of the request",
          "[price]") {
  Price price;
  for (std::size_t i = 0; i < usage_bucket_count; ++i)
    price.per_token[i] = PicoUsd{static_cast<__int128>(i + 1)};
  price.per_request = PicoUsd{1'000'000};
  Usage usage;
  CHECK(cost_of(price, usage) == PicoUsd{1'000'000});
  __int128 expected = 1'000'000;
  for (std::size_t i = 0; i < usage_bucket_count; ++i) {
    usage.*usage_buckets[i].member = 10 + i;
    expected += static_cast<__int128>((i + 1) * (10 + i));
  }
  CHECK(cost_of(price, usage) == PicoUsd{expected});
}

TEST_CASE("no usage within the bounds costs more than the worst case", "[price]") {
  const auto seed = GENERATE(range(0, 20));
  Random random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 300; ++i) {
    Price price;
    for (auto& amount : price.per_token)
      amount = PicoUsd{static_cast<__int128>(random.below(100'000'000))};
    price.per_request = PicoUsd{static_cast<__int128>(random.below(1'000'000'000))};
    Usage usage;
    for (const auto& bucket : usage_buckets)
      usage.*bucket.member = random.below(3) == 0 ? 0 : random.below(200'000);
    const auto slack = random.below(3);
    const PicoUsd bound =
        worst_case_of(price, usage.input_total() + slack, usage.output_total() + slack);
    CAPTURE(seed, i);
    REQUIRE(cost_of(price, usage) <= bound);
  }
}

TEST_CASE("the worst case is reached by usage in the dearest buckets only", "[price]") {
  Price price;
  price.per_token[2] = PicoUsd{9};  // input_cache_write_5m
  price.per_token[0] = PicoUsd{4};
  price.per_token[7] = PicoUsd{30};  // output_reasoning
  price.per_token[6] = PicoUsd{20};
  price.per_request = PicoUsd{5};
  Usage usage;
  usage.input_cache_write_5m = 100;
  usage.output_reasoning = 10;
  CHECK(worst_case_of(price, 100, 10) == PicoUsd{5 + 900 + 300});
  CHECK(cost_of(price, usage) == worst_case_of(price, 100, 10));
}

TEST_CASE("a provider's own price goes before the price for every provider", "[price]") {
  PriceBook book("v1");
  Price general;
  general.per_request = PicoUsd{1};
  Price own;
  own.per_request = PicoUsd{2};
  book.set("*", "m", general);
  book.set("alpha", "m", own);
  REQUIRE(book.find("alpha", "m") != nullptr);
  CHECK(*book.find("alpha", "m") == own);
  REQUIRE(book.find("beta", "m") != nullptr);
  CHECK(*book.find("beta", "m") == general);
  CHECK(book.find("alpha", "unknown") == nullptr);
  CHECK(book.version() == "v1");
  book.set("alpha", "m", general);
  CHECK(*book.find("alpha", "m") == general);
}

TEST_CASE("an empty price book knows no price and says so in its version", "[price]") {
  const PriceBook book;
  CHECK(book.find("alpha", "m") == nullptr);
  CHECK(book.version() == "none");
}
