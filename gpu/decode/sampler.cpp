#include "gpu/decode/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/check.hpp"
#include "gpu/cpu/logit_rows.hpp"
#include "gpu/gpu_error.hpp"
#include "gpu/model/noise.hpp"

namespace outlast::gpu {
namespace {

constexpr double temperature_max = 100;
constexpr std::size_t sorted_at_first = 256;  // of the candidates that top_p may keep: mostly enough

constexpr const char* broken = "the model's logits are not all numbers: its weights are broken";

}  // namespace

Result<void> check_sampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0 && options.temperature <= temperature_max)) return fail(GpuError::invalid, "a temperature is from 0 to 100");
  if (!(options.top_p > 0 && options.top_p <= 1)) return fail(GpuError::invalid, "top_p is above 0 and at most 1");
  if (options.top_log_p > top_log_p_max) return fail(GpuError::invalid, "at most " + std::to_string(top_log_p_max) + " log-probabilities are told with each token");
  return {};
}

bool is_greedy(const SamplingOptions& options) { return options.temperature == 0 || options.top_k == 1; }

Result<void> take_likeliest(TokenId token, float log_p, DecodedToken& chosen) {
  if (!std::isfinite(log_p)) return fail(GpuError::invalid, broken);
  chosen.token = token;
  chosen.log_p = log_p;
  chosen.top.clear();
  return {};
}

bool Sampler::before(const Candidate& a, const Candidate& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }

void Sampler::gather(std::span<const float> logits, const TokenMask* allowed) {
  candidates_.clear();
  const auto add = [this, logits](TokenId token) {
    if (token < logits.size()) candidates_.push_back({logits[token], token});
  };
  if (allowed != nullptr) return allowed->for_each(add);
  for (TokenId token = 0; token < logits.size(); ++token) add(token);
}

void Sampler::cut(const SamplingOptions& options) {
  const auto begin = candidates_.begin();
  const auto at = [begin](std::size_t place) { return begin + static_cast<std::ptrdiff_t>(place); };
  if (options.top_k > 0 && options.top_k < candidates_.size()) {
    std::nth_element(begin, at(options.top_k), candidates_.end(), before);
    candidates_.resize(options.top_k);
  }
  if (options.top_p >= 1) return std::sort(begin, candidates_.end(), before);
  const double most = static_cast<double>(std::min_element(begin, candidates_.end(), before)->logit);
  const auto mass_of = [&options, most](const Candidate& one) { return std::exp((static_cast<double>(one.logit) - most) / options.temperature); };
  double whole = 0;
  for (const Candidate& one : candidates_) whole += mass_of(one);
  double mass = 0;
  std::size_t sorted = 0;
  for (std::size_t end = std::min(sorted_at_first, candidates_.size()); sorted < candidates_.size(); end = std::min(4 * end, candidates_.size())) {
    if (end < candidates_.size()) std::nth_element(at(sorted), at(end), candidates_.end(), before);
    std::sort(at(sorted), at(end), before);
    for (; sorted < end; ++sorted) {
      mass += mass_of(candidates_[sorted]);
      if (mass >= options.top_p * whole) return candidates_.resize(sorted + 1);
    }
  }
}

TokenId Sampler::draw(const SamplingOptions& options, std::uint64_t place) const {
  const double most = static_cast<double>(std::min_element(candidates_.begin(), candidates_.end(), before)->logit);
  const auto mass_of = [&options, most](const Candidate& one) { return std::exp((static_cast<double>(one.logit) - most) / options.temperature); };
  double whole = 0;
  for (const Candidate& one : candidates_) whole += mass_of(one);
  double left = static_cast<double>(noise(options.seed, place) >> 11) * 0x1p-53 * whole;
  for (const Candidate& one : candidates_) {
    left -= mass_of(one);
    if (left < 0) return one.token;
  }
  return candidates_.front().token;  // what rounding left over
}

void Sampler::tell_top(std::span<const float> logits, float log_sum, std::size_t count, std::vector<TokenLogP>& top) {
  gather(logits, nullptr);
  count = std::min(count, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count), candidates_.end(), before);
  for (std::size_t i = 0; i < count; ++i) top.push_back({candidates_[i].token, candidates_[i].logit - log_sum});
}

Result<void> Sampler::choose(std::span<const float> logits, const TokenMask* allowed, const SamplingOptions& options, std::uint64_t place, DecodedToken& chosen) {
  check(!logits.empty(), "there are tokens to choose from");
  if (!all_finite(logits.data(), logits.size())) return fail(GpuError::invalid, broken);
  const float most = largest_of(logits.data(), logits.size());
  const float log_sum = log_sum_of(logits.data(), logits.size(), most);
  const bool greedy = is_greedy(options);
  if (greedy && allowed == nullptr) {
    chosen.token = static_cast<TokenId>(std::find(logits.begin(), logits.end(), most) - logits.begin());
  } else {
    gather(logits, allowed);
    if (candidates_.empty()) return fail(GpuError::invalid, "no token is allowed to come next");
    if (greedy) {
      chosen.token = std::min_element(candidates_.begin(), candidates_.end(), before)->token;
    } else {
      if (options.top_k > 0 || options.top_p < 1) cut(options);
      chosen.token = draw(options, place);
    }
  }
  chosen.log_p = logits[chosen.token] - log_sum;
  chosen.top.clear();
  if (options.top_log_p > 0) tell_top(logits, log_sum, options.top_log_p, chosen.top);
  return {};
}

}  // namespace outlast::gpu
