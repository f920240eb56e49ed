// How fast a commitment is used, against how fast it would have to be. Pure integers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/commitment.hpp"

namespace outlast {

// All units are the commitment's own: tokens, or pico-USD at list price.
struct CommitmentPace {
  bool active = false;       // has begun, has not expired or ended, and has something left
  bool behind = false;       // active, and less is used than an even pace would have used by now
  __int128 left = 0;         // neither used nor held
  __int128 even = 0;         // what an even pace would have used by now
  // If it goes on as it went since the beginning:
  __int128 unused_at_end = 0;     // expires, or rolls over
  std::int64_t runs_out_ms = 0;   // before its end; 0: it does not
};

// The forecast is nothing before a thousandth of the time has passed: it would say little.
CommitmentPace pace_of(const CommitmentStatus& status, std::int64_t now_ms);

// What a million tokens, or a dollar at list price, cost when `units` of the commitment get used in all; zero for none.
PicoUsd effective_price(const Commitment& commitment, __int128 units);

// Whether a purchase of that model draws from a commitment that is behind. What rolled over is always behind.
bool burns_commitment(std::span<const CommitmentStatus> commitments, std::string_view provider,
                      std::string_view served_model, std::int64_t now_ms);

}  // namespace outlast
