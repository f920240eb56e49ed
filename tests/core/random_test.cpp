#include <catch2/catch.hpp>

#include <array>

#include "core/random.hpp"

namespace random_test {

using outlast::Random;

TEST_CASE("the generator gives SplitMix64's published sequence", "[random]") {
  Random random(1234567);
  CHECK(random.next() == 6457827717110365317ULL);
  CHECK(random.next() == 3203168211198807973ULL);
  CHECK(random.next() == 9817491932198370423ULL);
}

TEST_CASE("numbers below a bound stay below it and reach both ends", "[random]") {
  Random random(9);
  std::array<int, 6> seen{};
  for (int i = 0; i < 6'000; ++i) {
    const auto value = random.below(6);
    REQUIRE(value < 6);
    ++seen[value];
  }
  for (const int count : seen) CHECK(count > 800);
  for (int i = 0; i < 1'000; ++i) {
    const double fraction = random.fraction();
    REQUIRE(fraction >= 0.0);
    REQUIRE(fraction < 1.0);
  }
}

TEST_CASE("secure randomness fills the whole buffer and does not repeat", "[random]") {
  std::array<std::byte, 64> first{};
  std::array<std::byte, 64> second{};
  outlast::secure_random(first);
  outlast::secure_random(second);
  CHECK(first != second);
  CHECK(std::count(first.begin(), first.end(), std::byte{0}) < 16);
}

}  // namespace random_test
