#include <catch2/catch.hpp>

#include "cluster/shard_money.hpp"

namespace outlast::cluster::shard_money_test {
namespace {

std::vector<std::string> ids_of(const std::vector<ShardBudget>& budgets, bool away) {
  std::vector<std::string> ids;
  for (const ShardBudget& one : budgets) {
    if (one.away == away) ids.push_back(one.budget.id);
  }
  return ids;
}

TEST_CASE("a budget is in its organisation's shard alone, or at home in one shard and away in all others", "[cluster]") {
  constexpr ShardId shards = 16;
  ControlView view;
  view.keys.resize(1);
  view.keys[0].id = "key_1";
  view.keys[0].tenant = {"acme", "search", "ann"};
  for (const char* scope : {"organisation:acme", "team:acme/search", "user:acme/search/ann", "key:key_1", "key:key_2", "tag:nightly", "model:m", "provider:p"}) {
    view.budgets.push_back({scope, "", *Scope::parse(scope), {1}, BudgetPeriod::total, "UTC", false});
  }
  view.commitments.push_back({{"com_1", "p", {}, CommitmentUnit::money, 10, {5}, 0, 10, false}, true});
  const auto money = money_of_shards(view, shards);
  REQUIRE(money.size() == shards);
  std::size_t homes = 0;
  for (ShardId shard = 0; shard < shards; ++shard) {
    CAPTURE(shard);
    auto here = ids_of(money[shard].budgets, false);
    const auto away = ids_of(money[shard].budgets, true);
    CHECK(std::count(here.begin(), here.end(), "key:key_2") == 0);
    const bool is_acme = std::count(here.begin(), here.end(), "organisation:acme") == 1;
    CHECK(is_acme == (shard == shard_of("acme", shards)));
    std::erase_if(here, [](const std::string& id) { return id.find("acme") != std::string::npos || id == "key:key_1"; });
    homes += here.size();
    CHECK(here.size() + away.size() == 3);
    REQUIRE(money[shard].commitments.size() == 1);
    CHECK(money[shard].commitments[0].ended);
    CHECK(money[shard].commitments[0].away == (shard != home_of_commitment("com_1", shards)));
  }
  CHECK(homes == 3);
}

TEST_CASE("in a cluster of one shard everything is at home", "[cluster]") {
  ControlView view;
  view.budgets.push_back({"b", "", *Scope::parse("tag:nightly"), {1}, BudgetPeriod::total, "UTC", false});
  const auto money = money_of_shards(view, 1);
  REQUIRE(money.size() == 1);
  CHECK_FALSE(money[0].budgets[0].away);
}

}  // namespace
}  // namespace outlast::cluster::shard_money_test
