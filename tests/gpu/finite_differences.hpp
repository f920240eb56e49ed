// Gradients by finite differences, for tests of operations.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include <catch2/catch.hpp>

#include "gpu/model/noise.hpp"

namespace outlast::gpu {

inline std::vector<float> random_numbers(std::size_t count, std::uint64_t seed, float deviation = 1) {
  std::vector<float> numbers(count);
  fill_normal(numbers, seed, 0, deviation);
  return numbers;
}

// The slope of `value` by each of `numbers` (fp32 numbers, so no closer than about a thousandth of the largest).
inline std::vector<float> slopes_of(std::vector<float> numbers, const std::function<double(const std::vector<float>&)>& value, float step = 1e-2F) {
  std::vector<float> slopes;
  for (float& number : numbers) {
    const float here = number;
    number = here + step;
    const float above = number;
    const double more = value(numbers);
    number = here - step;
    const double less = value(numbers);
    slopes.push_back(static_cast<float>((more - less) / static_cast<double>(above - number)));
    number = here;
  }
  return slopes;
}

inline void check_close(const std::vector<float>& got, const std::vector<float>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  double size = 1e-6;
  for (const float number : expected) size = std::max(size, static_cast<double>(std::abs(number)));
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i, got[i], expected[i]);
    CHECK(std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])) <= tolerance * size);
  }
}

}  // namespace outlast::gpu
