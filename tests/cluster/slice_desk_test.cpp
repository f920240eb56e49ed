#include "cluster/slice_desk.hpp"

#include <catch2/catch.hpp>

namespace outlast::cluster::slice_desk_test {
namespace {

// A budget of 100,000 whose home is elsewhere, with an allotment of `part`.
storage::BudgetAccount away_with(std::int64_t part) {
  storage::BudgetAccount account;
  account.status.budget.id = "bud";
  account.status.budget.amount = {100'000};
  account.status.away = true;
  account.status.allotted = {part};
  return account;
}

shard::BudgetDemand wanting(std::int64_t amount) {
  shard::BudgetDemand demand;
  demand.budget = "bud";
  demand.wanted = {amount};
  return demand;
}

}  // namespace

TEST_CASE("a holder's share is of what its shard may spend, not of the whole budget", "[cluster]") {
  Incarnation holder;
  holder.bytes.fill(7);
  SliceDesk desk;
  storage::BudgetAccount account = away_with(2'000);
  CHECK(SliceDesk::share_of(account) == PicoUsd{100});
  desk.report(account, holder, wanting(5'000));
  CHECK(desk.grant_for(account, holder, 0) == PicoUsd{100});
  CHECK(SliceDesk::surplus_keep(account, {101}) == PicoUsd{50});
  CHECK_FALSE(SliceDesk::surplus_keep(account, {100}));

  // Less than a tenth of the part is free.
  SliceDesk other;
  account.status.used = {1'801};
  other.report(account, holder, wanting(5'000));
  CHECK(other.grant_for(account, holder, 0) == PicoUsd{});
}

TEST_CASE("a shard without an allotment deals out nothing until it has one", "[cluster]") {
  Incarnation holder;
  holder.bytes.fill(7);
  SliceDesk desk;
  storage::BudgetAccount account = away_with(0);
  desk.report(account, holder, wanting(50));
  CHECK(desk.grant_for(account, holder, 0) == PicoUsd{});
  account = away_with(100'000);
  desk.report(account, holder, wanting(50));
  CHECK(desk.grant_for(account, holder, 0) == PicoUsd{100});  // twice what was wanted
}

}  // namespace outlast::cluster::slice_desk_test
