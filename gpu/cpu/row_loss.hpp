// The loss of one row of logits and its gradient: the reference for every device's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gpu/operations.hpp"

namespace outlast::gpu {

// What the teacher says of one row: its top tokens, or logits of its own, or nothing.
struct RowTeacher {
  const std::int32_t* top_tokens = nullptr;
  const float* top_log_p = nullptr;
  std::size_t top_k = 0;
  const float* logits = nullptr;
};

// Probabilities below are taken for this, so that their logarithms are finite.
inline constexpr float probability_floor = 1e-9F;

// Memory of a row, to be used again. One owner.
struct RowLossScratch {
  std::vector<float> q;      // the student's distribution at the temperature
  std::vector<float> p;      // the teacher's
  std::vector<float> pull;  // q times the slope of the loss by q, token by token
  std::vector<std::size_t> top;
};

// The loss; `logits`, of which the first `tokens` are looked at, become the gradient on them times `weight` where `gradient`
// is set. The others of `vocabulary` get none.
float row_loss(float* logits, std::size_t tokens, std::size_t vocabulary, std::int32_t target, float weight, bool gradient, const LossShape& shape,
               const RowTeacher& teacher, RowLossScratch& scratch);

}  // namespace outlast::gpu
