#include "cluster/slice_keeper.hpp"

#include <catch2/catch.hpp>

#include <string>

#include "cluster/holder_handover.hpp"

namespace outlast::cluster::slice_keeper_test {
namespace {

constexpr ShardId the_shard = 3;

struct Bench {
  Bench() : ids(clock, 1), holder(ids.next()), keeper({the_shard, holder, 5, 100, 1'000}, clock) {
    slice = keeper.slice_of("bud_1");
    keeper.connected("beta", 7);
  }
  void grant(std::int64_t total, std::uint64_t opened = 4) {
    keeper.receive("beta", {the_shard, 7, shard::Grants{holder, {{"bud_1", opened, {total}}}}});
  }
  void recall(std::int64_t granted, std::int64_t keep, std::uint64_t number, std::uint64_t epoch = 7) {
    keeper.receive("beta", {the_shard, epoch, shard::Recall{holder, number, {{{"bud_1", 4, {granted}}, {keep}}}}});
  }

  ManualClock clock;
  UuidGenerator ids;
  Incarnation holder;
  SliceKeeper keeper;
  std::shared_ptr<BudgetSlice> slice;
};

}  // namespace

TEST_CASE("a grant counts once, however often and in whatever order it is told", "[cluster][slices]") {
  Bench bench;
  bench.grant(100);
  bench.grant(100);
  CHECK(bench.slice->left() == PicoUsd{100});
  bench.grant(250);
  bench.grant(100);
  CHECK(bench.slice->left() == PicoUsd{250});
  CHECK(bench.keeper.slice_of("bud_1") == bench.slice);
  // One of another holder or shard is not for this one.
  bench.keeper.receive("beta", {the_shard, 7, shard::Grants{bench.ids.next(), {{"bud_1", 4, {900}}}}});
  bench.keeper.receive("beta", {9, 7, shard::Grants{bench.holder, {{"bud_1", 4, {900}}}}});
  CHECK(bench.slice->left() == PicoUsd{250});
}

TEST_CASE("what was left of an account that ended is gone when another one opens", "[cluster][slices]") {
  Bench bench;
  bench.grant(100);
  bench.grant(30, 9);
  CHECK(bench.slice->left() == PicoUsd{30});
  bench.grant(500, 4);  // late
  CHECK(bench.slice->left() == PicoUsd{30});
}

TEST_CASE("a recall is answered with what is left, also with nothing, by totals", "[cluster][slices]") {
  Bench bench;
  bench.grant(100);
  REQUIRE(bench.slice->take({30}));
  CHECK(bench.keeper.take_returns().empty());
  bench.recall(120, 0, 5);  // it tells of a grant that was not heard of
  std::vector<shard::SliceReturn> returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0] == shard::SliceReturn{"bud_1", 4, {90}, 5});
  CHECK(bench.slice->left() == PicoUsd{0});
  bench.slice->give({10});
  bench.recall(120, 0, 6);
  bench.recall(120, 0, 6);
  returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0] == shard::SliceReturn{"bud_1", 4, {100}, 6});
  bench.recall(120, 0, 7);
  returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0] == shard::SliceReturn{"bud_1", 4, {100}, 7});
  // Of what is not here; and by an owner that is not ours any more.
  bench.keeper.receive("beta", {the_shard, 7, shard::Recall{bench.holder, 8, {{{"bud_2", 4, {5}}, {}}}}});
  bench.recall(500, 0, 9, 6);
  returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0] == shard::SliceReturn{"bud_2", 4, {0}, 8});
}

TEST_CASE("a surplus goes back down to what may stay", "[cluster][slices]") {
  Bench bench;
  bench.grant(100);
  bench.recall(100, 40, 5);
  const std::vector<shard::SliceReturn> returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0].total == PicoUsd{60});
  CHECK(bench.slice->left() == PicoUsd{40});
}

TEST_CASE("demand is told while it matters, and not more often than that", "[cluster][slices]") {
  Bench bench;
  CHECK_FALSE(bench.keeper.take_demand());
  CHECK_FALSE(bench.slice->take({7}));
  bench.clock.advance_ms(5);
  const auto first = bench.keeper.take_demand();
  REQUIRE(first);
  CHECK(first->epoch == 7);
  CHECK(std::get<shard::Demand>(first->body).budgets == std::vector<shard::BudgetDemand>{{"bud_1", 0, {}, {7}, {}}});
  bench.grant(100);
  REQUIRE(bench.slice->take({10}));
  bench.clock.advance_ms(5);
  CHECK_FALSE(bench.keeper.take_demand());  // most of it is there
  REQUIRE(bench.slice->take({50}));
  bench.clock.advance_ms(5);
  const auto second = bench.keeper.take_demand();
  REQUIRE(second);
  CHECK(std::get<shard::Demand>(second->body).budgets == std::vector<shard::BudgetDemand>{{"bud_1", 4, {100}, {60}, {40}}});
  // A new owner hears of what is wanted at once.
  REQUIRE(bench.slice->take({1}));
  bench.keeper.connected("gamma", 8);
  bench.clock.advance_ms(5);
  CHECK(bench.keeper.take_demand());
  bench.keeper.disconnected();
  CHECK_FALSE(bench.slice->take({1'000}));
  bench.clock.advance_ms(500);
  CHECK_FALSE(bench.keeper.take_demand());
}

TEST_CASE("a slice that nobody asks of goes back", "[cluster][slices]") {
  Bench bench;
  bench.grant(100);
  REQUIRE(bench.slice->take({10}));
  bench.clock.advance_ms(5);
  REQUIRE(bench.keeper.take_demand());
  bench.clock.advance_ms(900);
  CHECK(bench.keeper.take_returns().empty());
  bench.clock.advance_ms(400);
  const std::vector<shard::SliceReturn> returns = bench.keeper.take_returns();
  REQUIRE(returns.size() == 1);
  CHECK(returns[0] == shard::SliceReturn{"bud_1", 4, {90}, 0});
}

TEST_CASE("a node ends its earlier processes: as spent where its disk does not know them", "[cluster][slices]") {
  ManualClock clock;
  UuidGenerator ids(clock, 2);
  const Incarnation known = ids.next();
  const Incarnation lost = ids.next();
  const Incarnation me = ids.next();
  const std::vector<Incarnation> record{known, lost, me};
  std::vector<EarlierHolder> earlier = earlier_holders(std::vector<Incarnation>{known}, record, me);
  REQUIRE(earlier.size() == 2);
  CHECK(earlier[0].known);
  CHECK(earlier[1].holder == lost);
  CHECK_FALSE(earlier[1].known);
  CHECK_FALSE(earlier_holders(std::nullopt, record, me)[0].known);
  earlier[0].spools[0] = {{5, "frame"}};
  const ShardId shards[] = {0, 1};
  HolderHandover handover(std::move(earlier), shards, me, clock);
  const auto sent = [&handover] {
    std::vector<shard::Message> messages;
    handover.tick();
    for (HandoverEffect& effect : handover.take_effects()) {
      if (auto* send = std::get_if<SendToNode>(&effect)) messages.push_back(send->message);
    }
    return messages;
  };
  CHECK(sent().empty());
  handover.connected(0, "beta", 7);
  std::vector<shard::Message> first = sent();
  REQUIRE(first.size() == 2);
  const auto& replay = std::get<shard::Operations>(first[0].body);
  CHECK(replay.holder == known);
  CHECK(replay.operations.size() == 1);
  CHECK(std::get<shard::EndHolder>(first[1].body) == shard::EndHolder{lost, true, "its node's disk was lost"});
  // The known one is ended when all of its spool is in the ledger, and not before.
  handover.receive("beta", {0, 7, shard::HolderEnded{known}});
  handover.receive("beta", {0, 7, shard::Acknowledgement{known, replay.stream, 1, 1, 0, {}, {}}});
  const std::vector<shard::Message> second = sent();
  REQUIRE(second.size() == 1);
  CHECK(std::get<shard::EndHolder>(second[0].body) == shard::EndHolder{known, false, "its node started again"});
  clock.advance_ms(HolderHandover::ask_again_ms);
  CHECK(sent().size() == 2);
  handover.connected(1, "gamma", 3);
  CHECK(sent().size() == 2);
  for (const ShardId shard : shards) {
    for (const Incarnation& holder : {known, lost}) handover.receive("beta", {shard, 7, shard::HolderEnded{holder}});
  }
  CHECK(handover.is_done());
  CHECK(handover.take_effects().size() == 2);
}

}  // namespace outlast::cluster::slice_keeper_test
