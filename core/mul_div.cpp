#include "core/mul_div.hpp"

#include <cstdint>

#include "core/check.hpp"

namespace outlast {
namespace {

using Wide = unsigned __int128;

struct Division {
  Wide quotient;
  Wide remainder;
};

struct Product {
  Wide high;
  Wide low;
};

// Schoolbook multiplication by halves.
Product multiply(Wide a, Wide b) {
  const Wide mask = ~static_cast<std::uint64_t>(0);
  const Wide a_low = a & mask;
  const Wide b_low = b & mask;
  const Wide a_high = a >> 64;
  const Wide b_high = b >> 64;
  const Wide low = a_low * b_low;
  const Wide middle = a_high * b_low + (low >> 64);
  const Wide middle2 = a_low * b_high + (middle & mask);
  return {a_high * b_high + (middle >> 64) + (middle2 >> 64), middle2 << 64 | (low & mask)};
}

Division divide(Wide a, Wide b, Wide c) {
  Wide product = 0;
  if (!__builtin_mul_overflow(a, b, &product)) return {product / c, product % c};
  const Product wide = multiply(a, b);
  check(wide.high < c, "the quotient of a share fits 128 bits");
  // Bit by bit: so large a product is rare.
  Division result{0, wide.high};
  for (int bit = 127; bit >= 0; --bit) {
    const bool carry = result.remainder >> 127 != 0;
    result.remainder = result.remainder << 1 | (wide.low >> bit & 1);
    result.quotient <<= 1;
    if (carry || result.remainder >= c) {
      result.remainder -= c;
      result.quotient |= 1;
    }
  }
  return result;
}

Division divide_checked(__int128 a, __int128 b, __int128 c) {
  check(a >= 0 && b >= 0 && c > 0, "a share is of amounts that are not negative");
  return divide(static_cast<Wide>(a), static_cast<Wide>(b), static_cast<Wide>(c));
}

}  // namespace

__int128 mul_div_floor(__int128 a, __int128 b, __int128 c) {
  return static_cast<__int128>(divide_checked(a, b, c).quotient);
}

__int128 mul_div_half_even(__int128 a, __int128 b, __int128 c) {
  const Division division = divide_checked(a, b, c);
  // Compares the remainder with what it lacks to the next, since twice the remainder may not fit.
  const Wide lacking = static_cast<Wide>(c) - division.remainder;
  const bool up = division.remainder > lacking ||
                  (division.remainder == lacking && (division.quotient & 1) != 0);
  return static_cast<__int128>(division.quotient + (up ? 1 : 0));
}

}  // namespace outlast
