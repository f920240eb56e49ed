#include <catch2/catch.hpp>

#include "apps/config/node_config.hpp"

namespace price_book_toml_test {

using outlast::PicoUsd;
using outlast::Usage;
using outlast::apps::parse_price_book;

namespace {

std::string errors_of(const std::string& toml) {
  const auto book = parse_price_book(toml, "prices.toml");
  return book ? "no error" : book.error().message;
}

// One price of a model, from line 2 on; `lines` from line 5 on.
std::string one_price(const std::string& lines) {
  return "version = \"v\"\n[[price]]\nprovider = \"alpha\"\nmodel = \"m\"\n" + lines;
}

}  // namespace

TEST_CASE("dollars per million tokens become whole pico-dollars per token", "[price]") {
  const auto book = parse_price_book(
      one_price("input = \"2.50\"\noutput = \"0.000001\"\nper_request = \"0.01\""), "p");
  if (!book) FAIL(book.error().message);
  const auto* price = book->find({.provider = "alpha", .model = "m"});
  REQUIRE(price != nullptr);
  CHECK(price->per_token[0] == PicoUsd{2'500'000});
  CHECK(price->per_token[6] == PicoUsd{1});
  CHECK(price->per_request == PicoUsd{10'000'000'000});
  Usage million;
  million.input_uncached = 1'000'000;
  CHECK((cost_of(*price, million) - price->per_request).to_usd() == "2.50");
}

TEST_CASE("a bucket without a price of its own has that of its side", "[price]") {
  const auto book = parse_price_book(
      one_price(
          "input = \"3\"\noutput = \"15\"\ninput_cache_read = \"0.30\"\noutput_reasoning = \"0\""),
      "p");
  if (!book) FAIL(book.error().message);
  const auto* price = book->find({.provider = "alpha", .model = "m"});
  REQUIRE(price != nullptr);
  const std::int64_t expected[] = {3'000'000, 300'000,    3'000'000, 3'000'000, 3'000'000,
                                   3'000'000, 15'000'000, 0,         15'000'000};
  for (std::size_t i = 0; i < outlast::usage_bucket_count; ++i) {
    CAPTURE(outlast::usage_buckets[i].name);
    CHECK(price->per_token[i] == PicoUsd{expected[i]});
  }
}

TEST_CASE("the star stands for every provider without a price of its own", "[price]") {
  const auto book = parse_price_book(
      "version = \"v\"\n[[price]]\nprovider = \"*\"\nmodel = \"m\"\ninput = \"1\"\noutput = "
      "\"1\"\n",
      "p");
  REQUIRE(book);
  CHECK(book->find({.provider = "anyone", .model = "m"}) != nullptr);
}

TEST_CASE("a book without prices is a book", "[price]") {
  const auto book = parse_price_book("version = \"empty\"", "p");
  REQUIRE(book);
  CHECK(book->version() == "empty");
}

TEST_CASE("each mistake in a price book is named", "[price]") {
  CHECK(errors_of("") ==
        "prices.toml:1: key 'version': is missing; write e.g. version = \"2026-11-01\"");
  CHECK(errors_of(one_price("input = \"1.0000001\"\noutput = \"1\"")) ==
        "prices.toml:5: key 'price.input': '1.0000001' has too many decimals; write dollars as a "
        "string with at most 6 "
        "decimals, e.g. input = \"2.50\"");
  CHECK(errors_of(one_price("input = \"1.0000000000000\"\noutput = \"1\"")) ==
        "prices.toml:5: key 'price.input': '1.0000000000000' has too many decimals; write dollars "
        "as a string with at "
        "most 6 decimals, e.g. input = \"2.50\"");
  CHECK(errors_of(one_price("input = 2.5\noutput = 3")) ==
        "prices.toml:5: key 'price.input': is a number; write dollars as a string with at most 6 "
        "decimals, e.g. input = "
        "\"2.50\"\n"
        "prices.toml:6: key 'price.output': is a number; write dollars as a string with at most 6 "
        "decimals, e.g. output "
        "= \"2.50\"");
  CHECK(errors_of(one_price("input = \"$1\"\noutput = \"1\"")) ==
        "prices.toml:5: key 'price.input': '$1' is not an amount of dollars; write dollars as a "
        "string with at most 6 "
        "decimals, e.g. input = \"2.50\"");
  CHECK(errors_of(one_price("input = \"-1\"\noutput = \"1\"")) ==
        "prices.toml:5: key 'price.input': '-1' is out of range; write an amount from 0 to "
        "1000000.00");
  CHECK(errors_of(one_price("input = \"1\"\noutput = \"1000000.000001\"")) ==
        "prices.toml:6: key 'price.output': '1000000.000001' is out of range; write an amount from "
        "0 to 1000000.00");
  CHECK(errors_of(one_price("input = \"1\"\noutput = \"1\"\ninput_cached = \"1\"")) ==
        "prices.toml:7: key 'price.input_cached': is not known; did you mean 'input_uncached'?");
  CHECK(errors_of(one_price("input = \"1\"\noutput = \"1\"\nvideo_frames = \"1\"")) ==
        "prices.toml:7: key 'price.video_frames': is not known; the keys here are provider, model, "
        "input, "
        "input_uncached, input_cache_read, input_cache_write_5m, input_cache_write_1h, "
        "input_audio, input_image, output, "
        "output_text, output_reasoning, output_audio, per_request, per_image, per_second, "
        "per_query, per_session, snapshots, contract, service_tier, geo, batch, from, until, "
        "currency, source, threshold");
  CHECK(errors_of("version = \"v\"\n[[price]]\n") ==
        "prices.toml:2: key 'price.provider': is missing; write e.g. provider = \"alpha\", or "
        "\"*\" for every provider\n"
        "prices.toml:2: key 'price.model': is missing; write e.g. model = \"claude-fable-5\"\n"
        "prices.toml:2: key 'price.input': is missing; write US dollars per million tokens, e.g. "
        "input = \"2.50\"\n"
        "prices.toml:2: key 'price.output': is missing; write US dollars per million tokens, e.g. "
        "output = \"2.50\"");
  const std::string twice =
      "[[price]]\nprovider = \"alpha\"\nmodel = \"m\"\ninput = \"1\"\noutput = \"1\"\n";
  CHECK(errors_of("version = \"v\"\n" + twice + twice) ==
        "prices.toml:9: key 'price.model': 'm' of provider 'alpha' already has the price of line "
        "2; keep one of them");
  CHECK_THAT(errors_of("version = "), Catch::StartsWith("prices.toml:1: is not TOML: "));
}

}  // namespace price_book_toml_test
