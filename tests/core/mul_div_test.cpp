#include "core/mul_div.hpp"

#include <catch2/catch.hpp>

#include "core/random.hpp"

namespace outlast::mul_div_test {

TEST_CASE("shares are rounded down, or half to even", "[money]") {
  CHECK((mul_div_floor(7, 3, 2) == 10));
  CHECK((mul_div_half_even(7, 3, 2) == 10));   // 10.5
  CHECK((mul_div_half_even(11, 1, 2) == 6));   // 5.5
  CHECK((mul_div_half_even(10, 1, 3) == 3));
  CHECK((mul_div_half_even(11, 1, 3) == 4));
  CHECK((mul_div_floor(0, 5, 9) == 0));
}

TEST_CASE("products beyond 128 bits give exact shares", "[money]") {
  constexpr __int128 large = static_cast<__int128>(1) << 100;
  CHECK((mul_div_floor(large, large, large) == large));
  CHECK((mul_div_floor(large - 1, large, large + 1) == large - 2));
  CHECK((mul_div_half_even(large, large, large << 1) == large >> 1));
  Random random(5);
  for (int i = 0; i < 20'000; ++i) {
    const __int128 c = (static_cast<__int128>(random.next() >> 1) << 40 | 1) + 1;
    const __int128 b = static_cast<__int128>(random.next()) << 30;
    const __int128 a = static_cast<__int128>(random.next() >> 30);
    const __int128 quotient = mul_div_floor(a, b, c);
    // Checked without the product: quotient * c <= a * b < (quotient + 1) * c, modulo 2^128.
    const auto difference =
        static_cast<unsigned __int128>(a) * static_cast<unsigned __int128>(b) -
        static_cast<unsigned __int128>(quotient) * static_cast<unsigned __int128>(c);
    REQUIRE((difference < static_cast<unsigned __int128>(c)));
    const __int128 nearest = mul_div_half_even(a, b, c);
    REQUIRE((nearest == quotient || nearest == quotient + 1));
  }
}

}  // namespace outlast::mul_div_test
