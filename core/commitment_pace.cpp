#include "core/commitment_pace.hpp"

#include <algorithm>

#include "core/mul_div.hpp"

namespace outlast {
namespace {

constexpr std::int64_t forecast_share = 1000;
constexpr __int128 tokens_per_price = 1'000'000;
constexpr __int128 pico_per_usd = 1'000'000'000'000;

}  // namespace

CommitmentPace pace_of(const CommitmentStatus& status, std::int64_t now_ms) {
  const Commitment& commitment = status.commitment;
  const std::int64_t span_ms = std::max<std::int64_t>(commitment.until_ms - commitment.from_ms, 1);
  const std::int64_t elapsed_ms = std::clamp<std::int64_t>(now_ms - commitment.from_ms, 0, span_ms);
  const bool expired = now_ms >= commitment.until_ms;
  CommitmentPace pace;
  pace.left = std::max<__int128>(commitment.units - status.used - status.held, 0);
  pace.even = mul_div_floor(commitment.units, elapsed_ms, span_ms);
  const bool begun = now_ms >= commitment.from_ms;
  pace.active = begun && !status.ended && (!expired || commitment.rollover) && pace.left > 0;
  pace.behind = pace.active && (expired || status.used < pace.even);
  pace.unused_at_end = commitment.units - status.used;
  if (expired || status.ended || elapsed_ms < span_ms / forecast_share) return pace;
  // used * span can be larger than the units by any factor; only what is below them matters.
  if (elapsed_ms > 0 && status.used >= pace.even && status.used > 0) {
    const __int128 runs_for_ms = mul_div_floor(commitment.units, elapsed_ms, status.used);
    if (runs_for_ms < span_ms) pace.runs_out_ms = commitment.from_ms + static_cast<std::int64_t>(runs_for_ms);
    pace.unused_at_end = 0;
  } else if (elapsed_ms > 0) {
    pace.unused_at_end = commitment.units - std::min(mul_div_floor(status.used, span_ms, elapsed_ms), commitment.units);
  }
  return pace;
}

PicoUsd effective_price(const Commitment& commitment, __int128 units) {
  if (units <= 0) return {};
  const __int128 per = commitment.unit == CommitmentUnit::tokens ? tokens_per_price : pico_per_usd;
  constexpr __int128 most = static_cast<__int128>(~static_cast<unsigned __int128>(0) >> 1);
  if (commitment.price.value / units >= most / per) return {};  // absurd, and does not fit
  return {mul_div_half_even(commitment.price.value, per, units)};
}

bool burns_commitment(std::span<const CommitmentStatus> commitments, std::string_view provider,
                      std::string_view served_model, std::int64_t now_ms) {
  return std::any_of(commitments.begin(), commitments.end(), [&](const CommitmentStatus& status) {
    return status.commitment.provider == provider && status.commitment.covers(served_model) &&
           pace_of(status, now_ms).behind;
  });
}

}  // namespace outlast
