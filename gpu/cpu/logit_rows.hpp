// What is asked of a row of logits before one of its tokens is chosen.
#pragma once

#include <cstddef>

namespace outlast::gpu {

bool all_finite(const float* numbers, std::size_t count);
// Of one number or more.
float largest_of(const float* numbers, std::size_t count);
// log Σ e^x; `most`: the largest.
float log_sum_of(const float* numbers, std::size_t count, float most);

}  // namespace outlast::gpu
