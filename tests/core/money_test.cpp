#include <catch2/catch.hpp>

#include "core/money.hpp"
#include "core/random.hpp"

namespace money_test {

using outlast::is;
using outlast::MoneyError;
using outlast::PicoUsd;
using outlast::Random;

namespace {

PicoUsd any_amount(Random& random) {
  // Magnitudes of every size up to 10^30 pico-USD, the largest that parse_usd accepts.
  const auto high = static_cast<__int128>(random.next() >> 26) << 61;
  auto value = (high | static_cast<__int128>(random.next())) >> random.below(100);
  if (random.below(2) == 1) value = -value;
  return PicoUsd{value};
}

}  // namespace

TEST_CASE("dollars are printed with at least two and at most twelve decimals", "[money]") {
  CHECK(PicoUsd{0}.to_usd() == "0.00");
  CHECK(PicoUsd{1}.to_usd() == "0.000000000001");
  CHECK(PicoUsd{123'000'000}.to_usd() == "0.000123");
  CHECK(PicoUsd{12'500'000'000'000}.to_usd() == "12.50");
  CHECK(PicoUsd{-3'000'000'000'000}.to_usd() == "-3.00");
  CHECK(PicoUsd{-1}.to_usd() == "-0.000000000001");
  CHECK(PicoUsd{-123}.to_string() == "-123");
}

TEST_CASE("dollars that are read are exact", "[money]") {
  CHECK(PicoUsd::parse_usd("12.50") == PicoUsd{12'500'000'000'000});
  CHECK(PicoUsd::parse_usd("0.000000000001") == PicoUsd{1});
  CHECK(PicoUsd::parse_usd("7") == PicoUsd{7'000'000'000'000});
  CHECK(PicoUsd::parse_usd("-.5") == PicoUsd{-500'000'000'000});
  CHECK(PicoUsd::parse_pico("-42") == PicoUsd{-42});
}

TEST_CASE("every amount survives being printed and read, as dollars and as pico-dollars",
          "[money]") {
  const auto seed = GENERATE(range(0, 20));
  Random random(static_cast<std::uint64_t>(seed));
  for (int i = 0; i < 500; ++i) {
    const PicoUsd amount = any_amount(random);
    CAPTURE(seed, i, amount.to_string());
    REQUIRE(PicoUsd::parse_usd(amount.to_usd()) == amount);
    REQUIRE(PicoUsd::parse_pico(amount.to_string()) == amount);
  }
}

TEST_CASE("text that is not an amount is refused with the reason", "[money]") {
  for (const char* text :
       {"", "-", ".", "+1", "1e3", "1,5", " 1", "1 ", "--1", "1.2.3", "0x10", "$1", "NaN"}) {
    CAPTURE(text);
    const auto amount = PicoUsd::parse_usd(text);
    REQUIRE_FALSE(amount);
    CHECK(is(amount.error(), MoneyError::malformed));
  }
  CHECK(is(PicoUsd::parse_usd("0.0000000000001").error(), MoneyError::too_precise));
  CHECK(is(PicoUsd::parse_usd("1000000000000000001").error(), MoneyError::out_of_range));
  CHECK(is(PicoUsd::parse_usd(std::string(60, '9')).error(), MoneyError::out_of_range));
  for (const char* text : {"", "-", "1.0", "+1", "a"}) {
    CAPTURE(text);
    CHECK(is(PicoUsd::parse_pico(text).error(), MoneyError::malformed));
  }
  CHECK(is(PicoUsd::parse_pico(std::string(60, '9')).error(), MoneyError::out_of_range));
}

TEST_CASE("sums and products of money are exact", "[money]") {
  const PicoUsd price{2'500'000};  // US$ 2.50 per million tokens
  CHECK((price * 1'000'000).to_usd() == "2.50");
  CHECK((price * 3 + PicoUsd{1}).to_string() == "7500001");
  CHECK(PicoUsd{5} - PicoUsd{8} == PicoUsd{-3});
  // As many tokens as fit into 64 bits at 2^62 pico-dollars each.
  const PicoUsd largest = PicoUsd{static_cast<__int128>(1) << 62} * ~std::uint64_t{0};
  CHECK(largest.value / (static_cast<__int128>(1) << 62) ==
        static_cast<__int128>(~std::uint64_t{0}));
}

TEST_CASE("numbers as JSON writes them are read exactly, exponents and all", "[money]") {
  const std::pair<const char*, std::int64_t> exact[] = {{"1.25e-06", 1'250'000},
                                                        {"1E-12", 1},
                                                        {"0.0", 0},
                                                        {"0e-40", 0},
                                                        {"3e-7", 300'000},
                                                        {"5.46875e-07", 546'875},
                                                        {"0.00000125", 1'250'000},
                                                        {"1.50000000000000e-11", 15},
                                                        {"7500.000e-11", 75'000},
                                                        {"2e+0", 2'000'000'000'000},
                                                        {"15", 15'000'000'000'000},
                                                        {"-1.5e-06", -1'500'000}};
  for (const auto& [text, pico] : exact) {
    CAPTURE(text);
    const auto amount = PicoUsd::parse_number(text);
    REQUIRE(amount);
    CHECK(amount->value == pico);
  }
  for (const char* text : {"1e-13", "1.0000000000000001e-05", "0.0000000000001", "1.25e-12"}) {
    CAPTURE(text);
    CHECK(is(PicoUsd::parse_number(text).error(), MoneyError::too_precise));
  }
  for (const char* text :
       {"", "e5", "1e", "1e+", "1e+-5", "--1", "1..2", "1.", "1e5.0", "0x10", "NaN", " 1"}) {
    CAPTURE(text);
    CHECK(is(PicoUsd::parse_number(text).error(), MoneyError::malformed));
  }
  for (const char* text : {"1e19", "1e999", "99999999999999999999999999999999999999999999"}) {
    CAPTURE(text);
    CHECK(is(PicoUsd::parse_number(text).error(), MoneyError::out_of_range));
  }
}

}  // namespace money_test
