// mul_div: a * b / c with nothing lost in between, for shares of amounts: the product of two
// amounts does not fit 128 bits.
#pragma once

namespace outlast {

// For a, b >= 0 and c > 0 whose quotient fits (a bug otherwise). Rounded down.
[[nodiscard]] __int128 mul_div_floor(__int128 a, __int128 b, __int128 c);
// Rounded to the nearest, and a half to the even one.
[[nodiscard]] __int128 mul_div_half_even(__int128 a, __int128 b, __int128 c);

}  // namespace outlast
