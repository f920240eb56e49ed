// Sampler: the next token from the logits of all, and what the model thinks of it. The same choice for the same seed and place,
// whatever else was sampled in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/result.hpp"
#include "gpu/decode/token_mask.hpp"

namespace outlast::gpu {

inline constexpr std::uint32_t top_log_p_max = 20;

// Temperature comes first, then top_k, then top_p; both keep whole tokens, and at least one.
struct SamplingOptions {
  double temperature = 0;       // 0: always the likeliest, of equal ones the first
  double top_p = 1;             // the likeliest tokens whose mass reaches this
  std::uint32_t top_k = 0;      // 0: all
  std::uint64_t seed = 0;
  std::uint32_t top_log_p = 0;  // so many of the likeliest tokens are told with each that is chosen
};
// Errors: invalid, with what would be right.
Result<void> check_sampling(const SamplingOptions& options);

// log_p is of the model's own distribution over all tokens: at temperature 1, before anything is cut off or forbidden. That is
// what the trainer's loss measures.
struct TokenLogP {
  TokenId token = 0;
  float log_p = 0;
};
struct DecodedToken {
  TokenId token = 0;
  float log_p = 0;
  std::vector<TokenLogP> top;  // falling; as many as were asked for
};

// Whether the likeliest token is chosen, whatever the seed.
bool is_greedy(const SamplingOptions& options);
// The choice where a device has made it (Likeliest). Errors: as of Sampler::choose().
Result<void> take_likeliest(TokenId token, float log_p, DecodedToken& chosen);

// One owner: it keeps its scratch.
class Sampler {
 public:
  explicit Sampler(std::size_t tokens) { candidates_.reserve(tokens); }
  // `logits`: of each token. `allowed`: which may come, or none: all. `place`: in the answer. Errors: invalid, where a logit is not a
  // finite number or nothing is allowed.
  Result<void> choose(std::span<const float> logits, const TokenMask* allowed, const SamplingOptions& options, std::uint64_t place, DecodedToken& chosen);

 private:
  struct Candidate {
    float logit = 0;
    TokenId token = 0;
  };
  static bool before(const Candidate& a, const Candidate& b);
  void gather(std::span<const float> logits, const TokenMask* allowed);
  // The likeliest first, and only those that top_k and top_p leave.
  void cut(const SamplingOptions& options);
  [[nodiscard]] TokenId draw(const SamplingOptions& options, std::uint64_t place) const;
  void tell_top(std::span<const float> logits, float log_sum, std::size_t count, std::vector<TokenLogP>& top);

  std::vector<Candidate> candidates_;
};

}  // namespace outlast::gpu
