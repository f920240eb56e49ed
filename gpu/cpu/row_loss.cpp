#include "gpu/cpu/row_loss.hpp"

#include <algorithm>
#include <cmath>

#include "gpu/cpu/vector_math.hpp"

namespace outlast::gpu {
namespace {

// out = softmax(logits / temperature); the log of the sum of the exponentials, of logits / temperature.
OUTLAST_KERNEL float soft_max(float* out, const float* logits, std::size_t count, float inverse_temperature) {
  const float most = max_of(logits, count) * inverse_temperature;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < count; ++i) {
    out[i] = exp_of(logits[i] * inverse_temperature - most);
    sum += out[i];
  }
  const float inverse = 1.0F / sum;
  for (std::size_t i = 0; i < count; ++i) out[i] *= inverse;
  return most + std::log(sum);
}

OUTLAST_KERNEL void scale_by(float* numbers, std::size_t count, float by) {
  for (std::size_t i = 0; i < count; ++i) numbers[i] *= by;
}

// out += factor · (pull − q · Σ pull)
OUTLAST_KERNEL void add_gradient(float* out, const float* q, const float* pull, std::size_t count, float factor) {
  const float sum = sum_of(pull, count);
  for (std::size_t i = 0; i < count; ++i) out[i] += factor * (pull[i] - q[i] * sum);
}

float floored(float probability) { return probability > probability_floor ? probability : probability_floor; }

// One bucket's part of the divergence, and q times its slope by q: in closed form, so that a student that gives nearly nothing to
// what its teacher says is pulled all the same. Slopes that are the same for all buckets are left out: their pulls add up to q
// times their sum.
struct Part {
  float loss;
  float pull;
};

Part part_of(const LossShape& shape, float p, float q) {
  const float p_log = std::log(floored(p));
  const float q_log = std::log(floored(q));
  const float mix = shape.mix;
  const Part forward{p * (p_log - q_log), -p};
  const Part reverse{q * (q_log - p_log), q * (q_log - p_log)};
  switch (shape.kind) {
    case LossKind::cross_entropy: return {0, 0};
    case LossKind::forward_kl: return forward;
    case LossKind::reverse_kl: return reverse;
    case LossKind::jsd: {
      if (mix <= 0) return forward;
      if (mix >= 1) return reverse;
      const float m_log = std::log(floored(mix * p + (1 - mix) * q));
      return {mix * p * (p_log - m_log) + (1 - mix) * q * (q_log - m_log), (1 - mix) * q * (q_log - m_log)};
    }
    case LossKind::skew_kl: {
      if (mix <= 0) return forward;
      const float m = floored(mix * p + (1 - mix) * q);
      return {p * (p_log - std::log(m)), -(1 - mix) * p * q / m};
    }
  }
  return {0, 0};
}

// Tokens are the buckets.
float full_divergence(const LossShape& shape, std::size_t tokens, RowLossScratch& scratch) {
  double loss = 0;
  for (std::size_t i = 0; i < tokens; ++i) {
    const Part part = part_of(shape, scratch.p[i], scratch.q[i]);
    loss += static_cast<double>(part.loss);
    scratch.pull[i] = part.pull;
  }
  return static_cast<float>(loss);
}

// The teacher's top tokens are a bucket each, all others are one.
float top_divergence(const LossShape& shape, std::size_t tokens, const RowTeacher& teacher, RowLossScratch& scratch) {
  auto& q = scratch.q;
  scratch.top.clear();
  double p_sum = 0;
  double q_top = 0;
  for (std::size_t i = 0; i < teacher.top_k; ++i) {
    const std::int32_t token = teacher.top_tokens[i];
    if (token < 0 || static_cast<std::size_t>(token) >= tokens) continue;
    scratch.top.push_back(i);
    p_sum += std::exp(static_cast<double>(teacher.top_log_p[i]));
    q_top += static_cast<double>(q[static_cast<std::size_t>(token)]);
  }
  double q_rest = 0;  // summed by itself: 1 − q_top would be noise where the top tokens have nearly all
  if (q_top < 0.99) {
    q_rest = 1 - q_top;
  } else {
    for (std::size_t i = 0; i < tokens; ++i) q_rest += static_cast<double>(q[i]);
    for (const std::size_t i : scratch.top) q_rest -= static_cast<double>(q[static_cast<std::size_t>(teacher.top_tokens[i])]);
  }
  const auto rest_q = static_cast<float>(std::max(0.0, q_rest));
  const Part rest = part_of(shape, static_cast<float>(std::max(0.0, 1 - p_sum)), rest_q);
  const float share = rest.pull / floored(rest_q);
  for (std::size_t i = 0; i < tokens; ++i) scratch.pull[i] = q[i] * share;
  double loss = static_cast<double>(rest.loss);
  for (const std::size_t i : scratch.top) {
    const auto token = static_cast<std::size_t>(teacher.top_tokens[i]);
    const Part part = part_of(shape, std::exp(teacher.top_log_p[i]), q[token]);
    loss += static_cast<double>(part.loss);
    scratch.pull[token] = part.pull;
  }
  return static_cast<float>(loss);
}

}  // namespace

float row_loss(float* logits, std::size_t tokens, std::size_t vocabulary, std::int32_t target, float weight, bool gradient, const LossShape& shape,
               const RowTeacher& teacher, RowLossScratch& scratch) {
  const bool distils = shape.kind != LossKind::cross_entropy && (teacher.top_k > 0 || teacher.logits != nullptr);
  const float cross_share = distils ? shape.cross_entropy : 1;
  float loss = 0;
  if (distils) {
    if (scratch.q.size() < tokens) {
      scratch.q.resize(tokens);
      scratch.p.resize(tokens);
      scratch.pull.resize(tokens);
    }
    soft_max(scratch.q.data(), logits, tokens, 1 / shape.temperature);
    float divergence = 0;
    if (teacher.logits != nullptr) {
      soft_max(scratch.p.data(), teacher.logits, tokens, 1 / shape.temperature);
      divergence = full_divergence(shape, tokens, scratch);
    } else {
      divergence = top_divergence(shape, tokens, teacher, scratch);
    }
    loss += (1 - cross_share) * shape.temperature * shape.temperature * divergence;
  }
  if (cross_share > 0 || !distils) {
    const auto at = static_cast<std::size_t>(target);
    const float own = logits[at];
    const float log_sum = soft_max(logits, logits, tokens, 1);
    loss += cross_share * (log_sum - own);
    if (gradient) {
      logits[at] -= 1;
      scale_by(logits, tokens, weight * cross_share);
    }
  } else if (gradient) {
    std::fill_n(logits, tokens, 0.0F);
  }
  if (!gradient) return loss;
  if (distils) {
    // By the logits over the temperature; T² / T = T of it are left.
    add_gradient(logits, scratch.q.data(), scratch.pull.data(), tokens, weight * (1 - cross_share) * shape.temperature);
  }
  std::fill(logits + tokens, logits + vocabulary, 0.0F);
  return loss;
}

}  // namespace outlast::gpu
