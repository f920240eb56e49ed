#include <catch2/catch.hpp>

#include "core/commitment_pace.hpp"

namespace commitment_pace_test {

using namespace outlast;

namespace {

// A thousand hours, a million tokens, two dollars.
CommitmentStatus status_of(std::int64_t used, bool rollover = false) {
  CommitmentStatus status;
  status.commitment = {.id = "com_1",
                       .provider = "alpha",
                       .models = {},
                       .unit = CommitmentUnit::tokens,
                       .units = 1'000'000,
                       .price = {2'000'000'000'000},
                       .from_ms = 0,
                       .until_ms = 3'600'000'000,
                       .rollover = rollover};
  status.used = used;
  return status;
}

}  // namespace

TEST_CASE("a commitment that is used too slowly is behind and says what will expire", "[commitment]") {
  const auto pace = pace_of(status_of(100'000), 1'800'000'000);
  CHECK(pace.active);
  CHECK(pace.behind);
  CHECK(pace.even == 500'000);
  CHECK(pace.left == 900'000);
  CHECK(pace.unused_at_end == 800'000);
  CHECK(pace.runs_out_ms == 0);
}

TEST_CASE("a commitment that is used fast says when it runs out", "[commitment]") {
  const auto pace = pace_of(status_of(800'000), 1'800'000'000);
  CHECK_FALSE(pace.behind);
  CHECK(pace.unused_at_end == 0);
  CHECK(pace.runs_out_ms == 2'250'000'000);
}

TEST_CASE("what is over, used up or not begun burns nothing", "[commitment]") {
  CHECK_FALSE(pace_of(status_of(0), 3'600'000'000).active);
  CHECK(pace_of(status_of(0, true), 3'600'000'000).behind);  // rolled over
  CHECK_FALSE(pace_of(status_of(1'000'000), 1'800'000'000).active);
  CommitmentStatus ended = status_of(0);
  ended.ended = true;
  CHECK_FALSE(pace_of(ended, 1'800'000'000).active);
  CommitmentStatus later = status_of(0);
  later.commitment.from_ms = 3'000'000'000;
  CHECK_FALSE(pace_of(later, 1'800'000'000).active);
}

TEST_CASE("the effective price is what was paid over what gets used", "[commitment]") {
  const Commitment commitment = status_of(0).commitment;
  CHECK(effective_price(commitment, 1'000'000).to_usd() == "2.00");
  CHECK(effective_price(commitment, 500'000).to_usd() == "4.00");
  CHECK(effective_price(commitment, 0).value == 0);
}

TEST_CASE("a deployment burns what covers its provider and model", "[commitment]") {
  CommitmentStatus status = status_of(0);
  status.commitment.models = {"m"};
  const std::vector<CommitmentStatus> all{status};
  CHECK(burns_commitment(all, "alpha", "m", 1'800'000'000));
  CHECK_FALSE(burns_commitment(all, "alpha", "n", 1'800'000'000));
  CHECK_FALSE(burns_commitment(all, "beta", "m", 1'800'000'000));
}

TEST_CASE("the largest commitments do not overflow", "[commitment]") {
  CommitmentStatus status = status_of(0);
  status.commitment.units = status.commitment.price.value =
      static_cast<__int128>(1'000'000'000'000'000'000) * 1'000'000'000'000;
  status.commitment.unit = CommitmentUnit::money;
  status.used = status.commitment.units / 3;
  CHECK(pace_of(status, 1'800'000'000).behind);
  CHECK(effective_price(status.commitment, 1).value == 0);  // absurd
  CHECK(pace_of(status, 1'000'000).runs_out_ms >= 0);
}

}  // namespace commitment_pace_test
