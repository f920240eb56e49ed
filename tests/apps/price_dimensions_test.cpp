// The dimensions of a price book's TOML beside models and buckets, and what can be wrong with them.
#include <catch2/catch.hpp>

#include "apps/config/node_config.hpp"

namespace price_dimensions_test {

using namespace outlast;
using apps::parse_price_book;

namespace {

constexpr std::int64_t day_ms = 86'400'000;
constexpr std::int64_t new_year_ms = 20'454 * day_ms;  // 2026-01-01

// A table of two-dollar prices; its first line is the first of `lines` after the four before.
std::string price(const std::string& lines, const std::string& model = "m") {
  return "[[price]]\nprovider = \"alpha\"\nmodel = \"" + model +
         "\"\ninput = \"2\"\noutput = \"2\"\n" + lines;
}

PriceBook book_of(const std::string& tables) {
  auto book = parse_price_book("version = \"v\"\n" + tables, "p.toml");
  if (!book) FAIL(book.error().message);
  return *book;
}

// The errors with `tables` from line 2 on, without the file's name.
std::string errors_of(const std::string& tables) {
  const auto book = parse_price_book("version = \"v\"\n" + tables, "p.toml");
  return book ? "no error" : book.error().message;
}

const PriceQuery plain{.provider = "alpha", .model = "m"};

}  // namespace

TEST_CASE("thresholds are read with their mode and prices", "[price]") {
  const PriceBook book = book_of(price(R"(input_cache_read = "0.20"
[[price.threshold]]
above_tokens = 128000
mode = "marginal"
input = "3"
input_cache_read = "0.30"
output = "4"
[[price.threshold]]
above_tokens = 200000
mode = "marginal"
input = "5"
input_cache_read = "0.50"
output = "6"
)"));
  const Price* found = book.find(plain);
  REQUIRE(found != nullptr);
  CHECK(found->mode == ThresholdMode::marginal);
  REQUIRE(found->thresholds.size() == 2);
  CHECK(found->thresholds[0].above_tokens == 128'000);
  CHECK(found->thresholds[0].per_token[0] == PicoUsd{3'000'000});
  CHECK(found->thresholds[0].per_token[1] == PicoUsd{300'000});
  CHECK(found->thresholds[1].per_token[6] == PicoUsd{6'000'000});
  CHECK_FALSE(parse_price_book("version = \"v\"\n" + price("[[price.threshold]]\n"), "p"));
}

TEST_CASE("tier, geo, contract, batch, pieces and snapshots are read", "[price]") {
  const PriceBook book = book_of(price(R"(snapshots = ["m-2026-01-01"]
per_query = "0.01"
per_image = "0.000000000001"
currency = "USD"
source = "https://example.com/pricing"
)") + price("service_tier = \"priority\"\ngeo = \"us\"\ncontract = \"ea-2026\"\nbatch = true\n"));
  CHECK(book.size() == 3);
  const Price* snapshot = book.find({.provider = "alpha", .model = "m-2026-01-01"});
  REQUIRE(snapshot != nullptr);
  CHECK(snapshot->per_unit[2] == PicoUsd{10'000'000'000});
  CHECK(snapshot->per_unit[0] == PicoUsd{1});
  const PriceEntry& special = *book.entries().front();
  CHECK(special.service_tier == "priority");
  CHECK(special.geo == "us");
  CHECK(special.contract == "ea-2026");
  CHECK(special.batch);
  CHECK(book.entries().back()->source == "https://example.com/pricing");
}

TEST_CASE("validity is read from dates and from times with an offset", "[price]") {
  const PriceBook book = book_of(price("until = 2026-01-01\n") +
                                 price("from = 2026-01-01T01:00:00+01:00\nuntil = 2026-01-02T00:00:00.5Z\n"));
  const auto entries = book.entries();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0]->until_ms == new_year_ms);
  CHECK(entries[1]->from_ms == new_year_ms);
  CHECK(entries[1]->until_ms == new_year_ms + day_ms + 500);
}

TEST_CASE("a gap or an overlap in time is named with both lines", "[price]") {
  CHECK(errors_of(price("until = 2026-01-01\n") + price("from = 2026-01-02\n")) ==
        "p.toml:13: key 'price.from': 'm' of provider 'alpha' has no price between the end of that "
        "of line 2 and this one; let one begin when the other ends");
  CHECK(errors_of(price("until = 2026-01-03\n") + price("from = 2026-01-02\n")) ==
        "p.toml:13: key 'price.from': 'm' of provider 'alpha' has the price of line 2 at that time "
        "too; end that one with 'until' when this one begins");
  CHECK(errors_of(price("from = 2026-01-03\n") + price("from = 2026-01-02\nuntil = 2026-01-03\n")) ==
        "no error");
  CHECK(errors_of(price("from = 2026-01-02\nuntil = 2026-01-02\n")) ==
        "p.toml:8: key 'price.until': is not after 'from'; it is the first moment without this "
        "price");
  CHECK(errors_of(price("from = 2026-01-02T00:00:00\n")) ==
        "p.toml:7: key 'price.from': has no offset from UTC; write from = 2026-01-01 or "
        "2026-01-01T12:00:00Z");
  CHECK(errors_of(price("from = \"2026-01-02\"\n")) ==
        "p.toml:7: key 'price.from': is a string; write from = 2026-01-01 or 2026-01-01T12:00:00Z, "
        "without quotes");
}

TEST_CASE("what thresholds can have wrong is named", "[price]") {
  const auto threshold = [](const std::string& above, const std::string& mode) {
    return "[[price.threshold]]\nabove_tokens = " + above + "\nmode = \"" + mode +
           "\"\ninput = \"3\"\noutput = \"3\"\n";
  };
  CHECK(errors_of(price(threshold("0", "cliff"))) ==
        "p.toml:8: key 'price.threshold.above_tokens': 0 is out of range; write an integer from 1 "
        "to 1000000000");
  CHECK(errors_of(price(threshold("200000", "steep"))) ==
        "p.toml:9: key 'price.threshold.mode': 'steep' is not known; write one of cliff, marginal");
  CHECK(errors_of(price(threshold("200000", "cliff") + threshold("128000", "cliff"))) ==
        "p.toml:13: key 'price.threshold.above_tokens': 128000 is not above the threshold before; "
        "write them in order");
  CHECK(errors_of(price(threshold("1", "cliff") + threshold("2", "marginal"))) ==
        "p.toml:14: key 'price.threshold.mode': differs from the threshold before; write the same "
        "mode in all");
  CHECK(errors_of(price("input_audio = \"9\"\n" + threshold("1", "cliff"))) ==
        "p.toml:8: key 'price.threshold.input_audio': is missing, and the price below the threshold "
        "has one; write input_audio for this threshold too");
  std::string nine;
  for (int i = 1; i <= 9; ++i) nine += threshold(std::to_string(i), "cliff");
  CHECK(errors_of(price(nine)) ==
        "p.toml:7: key 'price.threshold': stands there more than 8 times; keep fewer");
}

TEST_CASE("special prices need a general one, and each stands once", "[price]") {
  CHECK(errors_of(price("service_tier = \"flex\"\n")) ==
        "p.toml:4: key 'price.model': 'm' of provider 'alpha' has special prices only; add one "
        "without service_tier, geo and batch, for answers that name no other");
  CHECK(errors_of(price("") + price("geo = \"us\"\n") + price("geo = \"us\"\n")) ==
        "p.toml:15: key 'price.model': 'm' of provider 'alpha' already has the price of line 7; "
        "keep one of them");
  CHECK(errors_of(price("snapshots = [\"n\"]\n") + price("", "n")) ==
        "p.toml:10: key 'price.model': 'n' of provider 'alpha' already has the price of line 2; "
        "keep one of them");
}

TEST_CASE("other currencies, labels and snapshots that are none are refused", "[price]") {
  CHECK(errors_of(price("currency = \"EUR\"\n")) ==
        "p.toml:7: key 'price.currency': 'EUR' is not supported; prices are in US dollars, write "
        "currency = \"USD\" and the dollars of your contract");
  CHECK(errors_of("currency = \"EUR\"\n") ==
        "p.toml:2: key 'currency': 'EUR' is not supported; prices are in US dollars, write "
        "currency = \"USD\" and the dollars of your contract");
  CHECK(errors_of(price("service_tier = \"Priority\"\n") + price("")) ==
        "p.toml:7: key 'price.service_tier': is not a label; write 1 to 64 lower-case letters, "
        "digits, '-', '_' and '.'");
  CHECK(errors_of(price("per_query = \"-0.01\"\n")) ==
        "p.toml:7: key 'price.per_query': '-0.01' is out of range; write an amount from 0 to "
        "1000000.00");
  CHECK(errors_of(price("per_query = \"0.0000000000001\"\n")) ==
        "p.toml:7: key 'price.per_query': '0.0000000000001' has too many decimals; write dollars "
        "as a string with at most 12 decimals, e.g. per_query = \"2.50\"");
  CHECK(errors_of(price("snapshots = [\"\"]\n")) ==
        "p.toml:7: key 'price.snapshots': is not a list of names; write at most 64 models, e.g. "
        "snapshots = [\"gpt-5-2025-08-07\"]");
}

}  // namespace price_dimensions_test
