// MemoryAgreement where it fails: as etcd does, and the same again from the same seed.
#include <catch2/catch.hpp>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/memory_agreement.hpp"

namespace outlast::cluster::memory_agreement_test {
namespace {

using Fate = MemoryAgreement::Fate;

Presence presence(const std::string& node) {
  Presence made;
  made.node = node;
  return made;
}

// Nodes that claim, append and release by chance, under faults; what came of it, as text.
std::string play(std::uint64_t seed) {
  ManualClock clock;
  MemoryAgreement agreement(clock, seed);
  agreement.set_fate(MemoryAgreement::fates(seed, 50, 50, 50, 50));
  Random random(seed);
  struct Player {
    std::unique_ptr<Coordination> node;
    std::unique_ptr<SharedLog> log;
    Presence me;
    LeaseId lease = 0;
    std::uint64_t epoch = 0;
  };
  std::vector<Player> players;
  for (const char* name : {"a", "b", "c"}) {
    auto node = agreement.node(name);
    auto log = node->log(0);
    players.push_back({std::move(node), std::move(log), presence(name)});
  }
  std::map<std::uint64_t, std::string> acknowledged;
  std::string story;
  for (int step = 0; step < 300; ++step) {
    Player& player = players[random.below(players.size())];
    clock.advance_ms(static_cast<std::int64_t>(random.below(400)));
    if (random.below(50) == 0) agreement.cut_off(player.me.node, true);
    if (random.below(10) == 0) agreement.cut_off(player.me.node, false);
    if (player.lease == 0 || !player.node->keep_alive(player.lease)) {
      const Result<LeaseId> lease = player.node->start_lease(2, player.me);
      player.lease = lease ? *lease : 0;
      player.epoch = 0;
      continue;
    }
    if (player.epoch == 0) {
      const Result<std::uint64_t> epoch = player.node->claim(0, player.lease, player.me);
      if (epoch) player.epoch = *epoch;
      continue;
    }
    if (random.below(40) == 0 && player.node->release(0, player.epoch)) player.epoch = 0;
    const Result<SharedTail> tail = player.log->tail();
    if (!tail || player.epoch == 0) continue;
    const std::string records = player.me.node + std::to_string(step);
    const Result<void> appended = player.log->append(player.epoch, tail->next_index + 1, {tail->next_index, records});
    if (appended) acknowledged[tail->next_index] = records;
    else if (is(appended.error(), AgreementError::fenced)) player.epoch = 0;
  }
  agreement.land();
  std::uint64_t next_index = 0;
  std::uint64_t epoch = 0;
  for (const SharedBatch& batch : agreement.batches(0)) {
    REQUIRE(batch.first_index == next_index);
    REQUIRE(batch.epoch >= epoch);
    next_index = batch.next_index;
    epoch = batch.epoch;
    const auto expected = acknowledged.find(batch.first_index);
    if (expected != acknowledged.end()) REQUIRE(expected->second == batch.records);
    story += batch.records + "/" + std::to_string(batch.epoch) + " ";
  }
  REQUIRE((acknowledged.empty() || acknowledged.rbegin()->first < next_index));
  return story;
}

}  // namespace

TEST_CASE("what was acknowledged stands, in one order, whatever fails", "[agreement]") {
  std::size_t bytes = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    INFO(seed);
    const std::string story = play(seed);
    bytes += story.size();
    if (seed % 10 == 0) REQUIRE(play(seed) == story);
  }
  CHECK(bytes > 50'000);
}

TEST_CASE("each fate of a call is what it says", "[agreement]") {
  ManualClock clock;
  MemoryAgreement agreement(clock, 1);
  const auto node = agreement.node("a");
  const auto log = node->log(0);
  const Result<LeaseId> lease = node->start_lease(2, presence("a"));
  REQUIRE(lease);
  const Result<std::uint64_t> epoch = node->claim(0, *lease, presence("a"));
  REQUIRE(epoch);
  Fate fate = Fate::done;
  agreement.set_fate([&fate](std::string_view name, AgreementCall call) {
    CHECK(name == "a");
    return call == AgreementCall::append ? fate : Fate::done;
  });
  struct Case {
    Fate fate;
    AgreementError error;
    std::size_t batches;
  };
  for (const Case& one : {Case{Fate::refused, AgreementError::unavailable, 0},
                          Case{Fate::lost, AgreementError::unknown, 0},
                          Case{Fate::done_unanswered, AgreementError::unknown, 1}}) {
    fate = one.fate;
    const Result<void> appended = log->append(*epoch, 1, {0, "one"});
    REQUIRE_FALSE(appended);
    CHECK(is(appended.error(), one.error));
    CHECK(agreement.batches(0).size() == one.batches);
  }
  fate = Fate::late;
  CHECK_FALSE(log->append(*epoch, 2, {1, "two"}));
  CHECK(agreement.batches(0).size() == 1);
  agreement.land();
  CHECK(agreement.batches(0).size() == 2);
  // What comes too late comes to nothing.
  CHECK_FALSE(log->append(*epoch, 3, {2, "three"}));
  clock.advance_ms(2'000);
  agreement.tick();
  agreement.land();
  CHECK(agreement.batches(0).size() == 2);
  CHECK(agreement.owners().empty());
}

TEST_CASE("a node that is cut off hears nothing and can do nothing", "[agreement]") {
  ManualClock clock;
  MemoryAgreement agreement(clock, 1);
  const auto a = agreement.node("a");
  const auto b = agreement.node("b");
  int heard = 0;
  b->watch([&heard] { ++heard; }, [](ShardId) {});
  const Result<LeaseId> lease = b->start_lease(2, presence("b"));
  REQUIRE(lease);
  agreement.deliver_hints();
  CHECK(heard == 1);
  agreement.cut_off("b", true);
  REQUIRE(a->start_lease(2, presence("a")));
  agreement.deliver_hints();
  CHECK(heard == 1);
  CHECK_FALSE(b->view());
  CHECK(is(b->keep_alive(*lease).error(), AgreementError::unavailable));
  CHECK_FALSE(b->log(0)->tail());
  clock.advance_ms(1'999);
  REQUIRE(a->view());
  CHECK(a->view()->nodes.size() == 2);
  // As when etcd's leader changes.
  agreement.renew_leases();
  clock.advance_ms(1'999);
  CHECK(a->view()->nodes.size() == 2);
  clock.advance_ms(1);
  CHECK(a->view()->nodes.empty());
  agreement.cut_off("b", false);
  CHECK(is(b->keep_alive(*lease).error(), AgreementError::lease_lost));
}

}  // namespace outlast::cluster::memory_agreement_test
