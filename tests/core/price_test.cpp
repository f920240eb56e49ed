#include <catch2/catch.hpp>

#include <limits>

#include "core/price.hpp"
#include "core/random.hpp"

namespace price_test {

using outlast::BilledUnits;
using outlast::PicoUsd;
using outlast::Price;
using outlast::PriceThreshold;
using outlast::Random;
using outlast::ThresholdMode;
using outlast::TokenPrices;
using outlast::Usage;
using outlast::usage_bucket_count;
using outlast::usage_buckets;

namespace {

TokenPrices flat(std::int64_t input, std::int64_t output) {
  TokenPrices prices{};
  for (std::size_t i = 0; i < usage_bucket_count; ++i)
    prices[i] = PicoUsd{usage_buckets[i].name.starts_with("input") ? input : output};
  return prices;
}

// 2 and 10 per token up to 100 tokens of context, 3 and 20 up to 200, 5 and 40 beyond.
Price with_thresholds(ThresholdMode mode) {
  return {.per_token = flat(2, 10),
          .mode = mode,
          .thresholds = {{100, flat(3, 20)}, {200, flat(5, 40)}}};
}

Usage usage_of(std::uint64_t input, std::uint64_t output) {
  Usage usage;
  usage.input_uncached = input;
  usage.output_text = output;
  return usage;
}

// The cost of each token by its place in the context, one at a time.
PicoUsd marginal_by_token(const Price& price, const Usage& usage) {
  PicoUsd cost;
  std::uint64_t position = 0;
  for (const std::size_t bucket : {1, 2, 3, 5, 4, 0, 7, 6, 8}) {
    for (std::uint64_t n = usage.*usage_buckets[bucket].member; n > 0; --n, ++position) {
      const TokenPrices* prices = &price.per_token;
      for (const PriceThreshold& threshold : price.thresholds) {
        if (position >= threshold.above_tokens) prices = &threshold.per_token;
      }
      cost += (*prices)[bucket];
    }
  }
  return cost;
}

}  // namespace

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

TEST_CASE("each kind of piece has a price of its own", "[price]") {
  Price price;
  price.per_request = PicoUsd{1};
  for (std::size_t i = 0; i < outlast::billed_unit_count; ++i)
    price.per_unit[i] = PicoUsd{static_cast<__int128>(i + 1) * 100};
  CHECK(cost_of(price, Usage{}, BilledUnits{.images = 2, .seconds = 3, .queries = 5, .sessions = 7}) ==
        PicoUsd{1 + 200 + 600 + 1'500 + 2'800});
  CHECK(cost_of(price, Usage{}) == PicoUsd{1});
}

TEST_CASE("beyond a cliff every token is at the new prices, at it none", "[price]") {
  const Price price = with_thresholds(ThresholdMode::cliff);
  CHECK(cost_of(price, usage_of(100, 7)) == PicoUsd{200 + 70});
  CHECK(cost_of(price, usage_of(101, 7)) == PicoUsd{303 + 140});
  CHECK(cost_of(price, usage_of(200, 7)) == PicoUsd{600 + 140});
  CHECK(cost_of(price, usage_of(201, 7)) == PicoUsd{1'005 + 280});
  CHECK(cost_of(price, usage_of(100, 5'000)) == PicoUsd{200 + 50'000});  // output passes no cliff
}

TEST_CASE("cached and written tokens count towards a cliff", "[price]") {
  const Price price = with_thresholds(ThresholdMode::cliff);
  Usage usage;
  usage.input_cache_read = 60;
  usage.input_cache_write_1h = 40;
  CHECK(cost_of(price, usage) == PicoUsd{200});
  usage.input_audio = 1;
  CHECK(cost_of(price, usage) == PicoUsd{303});
}

TEST_CASE("beyond a marginal threshold only the tokens behind it are at the new prices", "[price]") {
  const Price price = with_thresholds(ThresholdMode::marginal);
  CHECK(cost_of(price, usage_of(100, 0)) == PicoUsd{200});
  CHECK(cost_of(price, usage_of(101, 0)) == PicoUsd{203});
  CHECK(cost_of(price, usage_of(201, 0)) == PicoUsd{200 + 300 + 5});
  CHECK(cost_of(price, usage_of(98, 4)) == PicoUsd{196 + 20 + 40});  // the output goes on where it ends
}

TEST_CASE("a cache holds the start of a context, so its tokens pass a marginal threshold last",
          "[price]") {
  Price price = with_thresholds(ThresholdMode::marginal);
  price.per_token[1] = PicoUsd{1};  // input_cache_read
  price.thresholds[0].per_token[1] = PicoUsd{1'000};
  Usage usage = usage_of(20, 0);
  usage.input_cache_read = 90;
  CHECK(cost_of(price, usage) == PicoUsd{90 + 10 * 2 + 10 * 3});
}

TEST_CASE("a marginal cost is the sum over the tokens one by one", "[price]") {
  const auto seed = GENERATE(range(0, 20));
  Random random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 50; ++i) {
    Price price{.mode = ThresholdMode::marginal};
    for (auto& amount : price.per_token) amount = PicoUsd{static_cast<__int128>(random.below(100))};
    std::uint64_t above = 0;
    for (std::uint64_t n = random.below(4); n > 0; --n) {
      PriceThreshold& threshold = price.thresholds.emplace_back();
      threshold.above_tokens = above += 1 + random.below(60);
      for (auto& amount : threshold.per_token)
        amount = PicoUsd{static_cast<__int128>(random.below(100))};
    }
    Usage usage;
    for (const auto& bucket : usage_buckets) usage.*bucket.member = random.below(30);
    CAPTURE(seed, i);
    REQUIRE(cost_of(price, usage) == marginal_by_token(price, usage));
  }
}

TEST_CASE("absurd counts do not wrap round to a small cost", "[price]") {
  const auto mode = GENERATE(ThresholdMode::cliff, ThresholdMode::marginal);
  Usage usage;
  for (const auto& bucket : usage_buckets)
    usage.*bucket.member = std::numeric_limits<std::uint64_t>::max();
  const PicoUsd cost = cost_of(with_thresholds(mode), usage);
  CHECK(cost.value > static_cast<__int128>(std::numeric_limits<std::uint64_t>::max()) * 5 * 5);
}

TEST_CASE("no usage within the bounds costs more than the worst case", "[price]") {
  const auto seed = GENERATE(range(0, 20));
  Random random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 300; ++i) {
    Price price;
    for (auto& amount : price.per_token)
      amount = PicoUsd{static_cast<__int128>(random.below(100'000'000))};
    price.per_request = PicoUsd{static_cast<__int128>(random.below(1'000'000'000))};
    price.mode = static_cast<ThresholdMode>(random.below(2));
    std::uint64_t above = 0;
    for (std::uint64_t n = random.below(4); n > 0; --n) {
      PriceThreshold& threshold = price.thresholds.emplace_back();
      threshold.above_tokens = above += 1 + random.below(400'000);
      for (auto& amount : threshold.per_token)
        amount = PicoUsd{static_cast<__int128>(random.below(200'000'000))};
    }
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

TEST_CASE("the worst case counts a threshold only when the bounds can pass it", "[price]") {
  const Price cliff = with_thresholds(ThresholdMode::cliff);
  CHECK(worst_case_of(cliff, 100, 9) == PicoUsd{200 + 90});
  CHECK(worst_case_of(cliff, 101, 9) == PicoUsd{303 + 180});
  const Price marginal = with_thresholds(ThresholdMode::marginal);
  CHECK(worst_case_of(marginal, 91, 9) == PicoUsd{182 + 90});
  CHECK(worst_case_of(marginal, 92, 9) == PicoUsd{276 + 180});
}

}  // namespace price_test
