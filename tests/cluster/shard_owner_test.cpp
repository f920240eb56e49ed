#include "cluster/shard_owner.hpp"

#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "cluster/holder_nodes.hpp"
#include "storage/memory_log.hpp"

namespace outlast::cluster::shard_owner_test {
namespace {

using storage::LedgerError;

constexpr ShardId the_shard = 0;

// An owner over a log in memory, holders as bare messages, and what it said to whom.
struct Bench {
  explicit Bench(std::int64_t amount = 1'000'000) : ids(clock, 1) {
    auto opened = storage::LedgerWriter::open_replica(log, clock);
    REQUIRE(opened);
    writer = std::move(*opened);
    REQUIRE(writer->lead(epoch, {ids.next(), "alpha", "test"}));
    OwnerOptions options;
    options.node = "alpha";
    options.node_of = [this](const Incarnation& holder) { return on_record.node_of(holder); };
    owner = std::make_unique<ShardOwner>(options, *writer, clock);
    for (Incarnation& holder : holders) holder = ids.next();
    budgets = {{"bud_1", "search", *Scope::parse("organisation:acme"), {amount}, BudgetPeriod::total, "UTC", false}};
    set_budgets(budgets);
    commit();
  }
  void set_budgets(const std::vector<Budget>& all) {
    ShardMoney money;
    for (const Budget& budget : all) money.budgets.push_back({budget, false});
    REQUIRE(owner->set_money(money));
  }
  void commit() {
    REQUIRE(owner->commit());
    said = owner->take_effects();
  }
  template <class Body>
  std::vector<Body> all() const {
    std::vector<Body> found;
    for (const OwnerEffect& effect : said) {
      const auto* const send = std::get_if<SendToNode>(&effect);
      if (send == nullptr) continue;
      if (const auto* body = std::get_if<Body>(&send->message.body)) found.push_back(*body);
    }
    return found;
  }
  void hear(const std::string& node, shard::Body body, std::uint64_t of_epoch = 7) {
    REQUIRE(owner->receive(node, {the_shard, of_epoch, std::move(body)}));
  }
  Reservation reservation(int holder, std::int64_t amount, bool from_slices) {
    Reservation made;
    made.request_id = ids.next();
    made.tenant = {"acme", "search", "ann"};
    made.price_known = true;
    made.amount = {amount};
    made.from_slices = from_slices;
    made.holder = holders[holder];
    return made;
  }
  shard::Operation operation(const proto::EntryBody& body) {
    std::string frame;
    proto::LedgerEncoder().append(frame, {{0, 0, 0}, body});
    return shard::EntryOperation{frame};
  }
  // The next of the holder's stream.
  void say(int holder, std::vector<shard::Operation> operations) {
    const std::uint64_t first = next[holder];
    next[holder] += operations.size();
    hear(nodes[holder], shard::Operations{holders[holder], stream[holder], 1, first, confirmed[holder], true, std::move(operations)});
  }
  void ask(int holder, std::int64_t wanted, std::int64_t seen, std::int64_t left) {
    hear(nodes[holder], shard::Demand{holders[holder], {{"bud_1", opened(holder), {seen}, {wanted}, {left}}}});
  }
  const storage::SliceAccount* slice(int holder) const {
    return storage::BudgetState::slice_of(*writer->state().budgets().find("bud_1"), holders[holder]);
  }
  std::uint64_t opened(int holder) const { return slice(holder) == nullptr ? 0 : slice(holder)->opened; }
  const BudgetStatus& status() const { return writer->state().budgets().find("bud_1")->status; }

  ManualClock clock;
  UuidGenerator ids;
  storage::MemoryLog log;
  std::unique_ptr<storage::LedgerWriter> writer;
  std::unique_ptr<ShardOwner> owner;
  HolderNodes on_record;
  Incarnation holders[2];
  const std::string nodes[2] = {"beta", "gamma"};
  std::uint64_t next[2] = {1, 1};
  std::uint64_t stream[2] = {1, 1};
  std::uint64_t confirmed[2] = {0, 0};
  std::uint64_t epoch = 7;
  std::vector<Budget> budgets;
  std::vector<OwnerEffect> said;
};

}  // namespace

TEST_CASE("an owner acknowledges what is durable, and not before", "[cluster][owner]") {
  Bench bench;
  bench.say(0, {bench.operation(bench.reservation(0, 10, false)), bench.operation(proto::KeyRevoked{"key_1"})});
  CHECK(bench.owner->take_effects().empty());
  CHECK(bench.owner->is_urgent());
  bench.commit();
  const auto told = bench.all<shard::Acknowledgement>();
  REQUIRE(told.size() == 1);
  CHECK(told[0].up_to == 2);
  CHECK(told[0].number == 1);
  REQUIRE(told[0].refusals.size() == 1);
  CHECK(told[0].refusals[0].sequence == 2);  // keys are the control log's
  CHECK(told[0].refusals[0].error == static_cast<std::uint16_t>(LedgerError::invalid));
  CHECK_FALSE(bench.owner->is_dirty());
  // After a commit that fails nothing is said.
  bench.log.set_fate([] { return storage::MemoryLog::Fate::lost; });
  bench.say(0, {bench.operation(bench.reservation(0, 10, false))});
  CHECK_FALSE(bench.owner->commit());
  CHECK(bench.owner->take_effects().empty());
}

TEST_CASE("each operation of a stream is taken in once and in order", "[cluster][owner]") {
  Bench bench;
  const shard::Operation first = bench.operation(bench.reservation(0, 10, false));
  const shard::Operation second = bench.operation(bench.reservation(0, 20, false));
  const auto message = [&bench](std::uint64_t at, const shard::Operation& operation) {
    return shard::Operations{bench.holders[0], 1, 1, at, 0, false, {operation}};
  };
  bench.hear("beta", message(2, second));
  bench.commit();
  REQUIRE(bench.all<shard::Acknowledgement>().size() == 1);
  CHECK(bench.all<shard::Acknowledgement>()[0].resend_from == 1);
  CHECK(bench.all<shard::Acknowledgement>()[0].up_to == 0);
  CHECK(bench.writer->state().open_count() == 0);
  for (int i = 0; i < 2; ++i) {
    bench.hear("beta", message(1, first));
    bench.hear("beta", message(2, second));
    bench.commit();
    CHECK(bench.all<shard::Acknowledgement>()[0].up_to == 2);  // again, since the first may be lost
    CHECK(bench.status().held == PicoUsd{30});
  }
}

TEST_CASE("an owner hears only its own epoch, and of a holder only the newest stream", "[cluster][owner]") {
  Bench bench;
  bench.stream[0] = 5;
  bench.say(0, {shard::SkippedOperation{}});
  bench.commit();
  const auto late = [&bench](std::uint64_t stream) {
    return shard::Operations{bench.holders[0], stream, 1, 1, 0, false, {bench.operation(bench.reservation(0, 10, false))}};
  };
  bench.hear("beta", late(4));
  bench.hear("beta", late(5), 6);
  bench.hear("beta", late(6), 8);
  bench.commit();
  const auto answers = bench.all<shard::NotOwner>();
  REQUIRE(answers.size() == 3);
  CHECK(answers[0].newest_stream == 5);
  CHECK(answers[1].owner_node == "alpha");
  CHECK(answers[1].owner_epoch == 7);
  CHECK(answers[2].owner_node.empty());
  CHECK(bench.writer->state().open_count() == 0);
  CHECK(bench.owner->counters().stale == 3);
}

TEST_CASE("refusals are told until the holder has confirmed them", "[cluster][owner]") {
  Bench bench(100);
  bench.say(0, {bench.operation(bench.reservation(0, 500, false))});
  bench.commit();
  const auto first = bench.all<shard::Acknowledgement>();
  REQUIRE(first.size() == 1);
  REQUIRE(first[0].refusals.size() == 1);
  REQUIRE(first[0].refusals[0].shortfall);
  CHECK(first[0].refusals[0].shortfall->budget_name == "search");
  CHECK(first[0].refusals[0].shortfall->left == PicoUsd{100});
  bench.say(0, {shard::SkippedOperation{}});
  bench.commit();
  CHECK(bench.all<shard::Acknowledgement>()[0].refusals.size() == 1);
  bench.confirmed[0] = 2;
  bench.say(0, {shard::SkippedOperation{}});
  bench.commit();
  CHECK(bench.all<shard::Acknowledgement>()[0].refusals.empty());
}

TEST_CASE("slices follow demand, leave something for others, and are told again until they are seen", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000, 0, 0);
  bench.commit();
  auto grants = bench.all<shard::Grants>();
  REQUIRE(grants.size() == 1);
  CHECK(grants[0].grants[0].total == PicoUsd{2'000});
  CHECK(bench.slice(0)->left == PicoUsd{2'000});
  // The message is lost; the next demand says so, and gets the same total.
  bench.ask(0, 1, 0, 0);
  bench.commit();
  grants = bench.all<shard::Grants>();
  REQUIRE(grants.size() == 1);
  CHECK(grants[0].grants[0].total == PicoUsd{2'000});
  // Never more than a twentieth.
  bench.ask(0, 10'000'000, 2'000, 0);
  bench.commit();
  CHECK(bench.slice(0)->left == PicoUsd{50'000});
  // Near the limit each reservation is the ledger's.
  bench.say(1, {bench.operation(bench.reservation(1, 880'000, false))});
  bench.ask(1, 1'000, 0, 0);
  bench.commit();
  CHECK(bench.slice(1) == nullptr);
  // A total that is repeated returns nothing more.
  for (int i = 0; i < 2; ++i) {
    bench.say(0, {shard::SliceReturn{"bud_1", bench.opened(0), {49'000}, 0}});
    bench.commit();
    CHECK(bench.slice(0)->left == PicoUsd{1'000});
  }
  // Of another account, nothing.
  bench.say(0, {shard::SliceReturn{"bud_1", bench.opened(0) + 1, {49'500}, 0}});
  bench.commit();
  CHECK(bench.slice(0)->left == PicoUsd{1'000});
  CHECK(bench.status().sliced == PicoUsd{1'000});
}

TEST_CASE("a short reservation waits for other holders' slices, and nothing else waits for it", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000'000, 0, 0);
  bench.commit();
  REQUIRE(bench.slice(0)->left == PicoUsd{50'000});
  const Reservation large = bench.reservation(1, 980'000, false);
  bench.say(1, {bench.operation(large), bench.operation(bench.reservation(1, 10, false))});
  bench.commit();
  auto told = bench.all<shard::Acknowledgement>();
  REQUIRE(told.size() == 1);
  CHECK(told[0].up_to == 2);
  CHECK(told[0].waiting == std::vector<std::uint64_t>{1});
  auto recalls = bench.all<shard::Recall>();
  REQUIRE(recalls.size() == 1);
  CHECK(recalls[0].holder == bench.holders[0]);
  CHECK(recalls[0].budgets[0].grant.total == PicoUsd{50'000});
  CHECK(recalls[0].budgets[0].keep == PicoUsd{0});
  bench.say(0, {shard::SliceReturn{"bud_1", bench.opened(0), {50'000}, recalls[0].number}});
  bench.commit();
  CHECK(bench.writer->state().is_open(large.request_id));
  told = bench.all<shard::Acknowledgement>();
  REQUIRE(told.size() == 2);
  for (const shard::Acknowledgement& one : told) CHECK(one.waiting.empty());
  CHECK(bench.owner->waiting() == 0);
}

TEST_CASE("a short reservation is refused once nobody is left who could return something", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000'000, 0, 0);
  bench.commit();
  bench.say(1, {bench.operation(bench.reservation(1, 940'000, false))});
  bench.commit();
  bench.say(1, {bench.operation(bench.reservation(1, 30'000, false))});
  bench.commit();
  const auto recalls = bench.all<shard::Recall>();
  REQUIRE(recalls.size() == 1);
  // All of it is spent over there.
  bench.say(0, {bench.operation(bench.reservation(0, 50'000, true)),
                shard::SliceReturn{"bud_1", bench.opened(0), {0}, recalls[0].number}});
  bench.commit();
  const auto told = bench.all<shard::Acknowledgement>();
  REQUIRE(told.size() == 2);
  const auto& refusals = told[0].refusals.empty() ? told[1].refusals : told[0].refusals;
  REQUIRE(refusals.size() == 1);
  CHECK(refusals[0].sequence == 2);
  CHECK(refusals[0].shortfall->needed == PicoUsd{30'000});
  // At once, when there is nothing to recall.
  bench.confirmed[1] = 99;
  bench.say(1, {bench.operation(bench.reservation(1, 30'000, false))});
  bench.commit();
  CHECK(bench.all<shard::Acknowledgement>()[0].refusals.size() == 1);
}

TEST_CASE("a holder that lets a recall pass is waited for once", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000'000, 0, 0);
  bench.commit();
  bench.say(1, {bench.operation(bench.reservation(1, 940'000, false))});
  bench.commit();
  bench.say(1, {bench.operation(bench.reservation(1, 30'000, false))});
  bench.commit();
  CHECK(bench.owner->waiting() == 1);
  CHECK(bench.owner->next_wake_ns() == bench.clock.monotonic_ns() + 150'000'000);
  bench.clock.advance_ms(150);
  CHECK(bench.owner->is_dirty());
  bench.commit();
  CHECK(bench.all<shard::Acknowledgement>()[0].refusals.size() == 1);
  bench.say(1, {bench.operation(bench.reservation(1, 30'000, false))});
  bench.commit();
  CHECK(bench.owner->waiting() == 0);
  // It is heard again, and asked again.
  bench.ask(0, 1, 50'000, 50'000);
  bench.say(1, {bench.operation(bench.reservation(1, 30'000, false))});
  bench.commit();
  CHECK(bench.owner->waiting() == 1);
}

TEST_CASE("a reservation that waits is decided before anything else of its request", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000'000, 0, 0);
  bench.commit();
  const Reservation large = bench.reservation(1, 980'000, false);
  bench.say(1, {bench.operation(large)});
  bench.commit();
  REQUIRE(bench.owner->waiting() == 1);
  // Its caller is gone.
  bench.say(1, {bench.operation(proto::Voided{{large.request_id, "the caller left"}, {}})});
  bench.say(0, {shard::SliceReturn{"bud_1", bench.opened(0), {50'000}, 0}});
  bench.commit();
  CHECK(bench.owner->waiting() == 0);
  CHECK(bench.writer->state().open_count() == 0);
  // A holder that begins a new stream says again what it waits for.
  bench.ask(0, 1'000'000, 50'000, 0);
  bench.clock.advance_ms(200);
  bench.commit();
  bench.ask(0, 1'000'000, 100'000, 0);
  bench.say(1, {bench.operation(bench.reservation(1, 990'000, false))});
  REQUIRE(bench.owner->waiting() == 1);
  bench.stream[1] = 2;
  bench.next[1] = 1;
  bench.say(1, {shard::SkippedOperation{}});
  CHECK(bench.owner->waiting() == 0);
}

TEST_CASE("a holder is ended when that is durable, as often as it is asked", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000, 0, 0);
  bench.say(0, {bench.operation(bench.reservation(0, 500, false))});
  bench.commit();
  REQUIRE(bench.slice(0)->left == PicoUsd{4'000});  // eight times the largest reservation
  for (int i = 0; i < 2; ++i) {
    // Whoever owned the shard when it was asked.
    bench.hear("beta", shard::EndHolder{bench.holders[0], true, "lost"}, 3);
    CHECK(bench.owner->take_effects().empty());
    bench.commit();
    REQUIRE(bench.all<shard::HolderEnded>().size() == 1);
    CHECK(bench.all<shard::HolderEnded>()[0].holder == bench.holders[0]);
  }
  CHECK(bench.status().sliced == PicoUsd{0});
  CHECK(bench.status().used == PicoUsd{4'500});
  CHECK(bench.writer->state().open_count() == 0);
  // What it says after that comes too late.
  bench.stream[0] = 2;
  bench.next[0] = 1;
  bench.say(0, {bench.operation(bench.reservation(0, 5, false))});
  bench.commit();
  REQUIRE(bench.all<shard::Acknowledgement>().size() == 1);
  CHECK(bench.all<shard::Acknowledgement>()[0].refusals[0].error == static_cast<std::uint16_t>(LedgerError::unknown_holder));
}

TEST_CASE("a holder is heard and ended only from the node that spoke for it first", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000, 0, 0);
  bench.commit();
  const PicoUsd left = bench.slice(0)->left;
  REQUIRE(left.value > 0);
  const Incarnation victim = bench.holders[0];
  bench.hear("gamma", shard::EndHolder{victim, true, "lost"});
  bench.hear("gamma", shard::EndHolder{victim, true, "lost"}, 3);
  bench.hear("gamma", shard::Demand{victim, {{"bud_1", bench.opened(0), left, {900'000}, {0}}}});
  bench.hear("gamma", shard::Operations{victim, 9, 1, 1, 0, true, {shard::SliceReturn{"bud_1", bench.opened(0), left, 0}}});
  bench.commit();
  CHECK(bench.said.empty());
  CHECK(bench.slice(0)->left == left);
  CHECK(bench.owner->counters().foreign == 4);
  // Its own node goes on, also by a next process that speaks for it.
  bench.say(0, {bench.operation(bench.reservation(0, 10, false))});
  bench.hear("beta", shard::EndHolder{victim, false, "its node started again"});
  bench.commit();
  CHECK(bench.all<shard::HolderEnded>().size() == 1);
  CHECK(bench.status().sliced == PicoUsd{0});
  CHECK(bench.owner->counters().foreign == 4);
}

TEST_CASE("a holder on record is ended only from its node, also when it did not speak yet", "[cluster][owner]") {
  Bench bench;
  bench.on_record.learn(bench.holders[0], "beta");
  bench.hear("gamma", shard::EndHolder{bench.holders[0], true, "lost"});
  bench.hear("gamma", shard::Operations{bench.holders[0], 1, 1, 1, 0, true, {shard::SkippedOperation{}}});
  bench.commit();
  CHECK(bench.said.empty());
  CHECK(bench.owner->counters().foreign == 2);
  bench.hear("beta", shard::EndHolder{bench.holders[0], true, "its disk was lost"});
  // Of one that nobody knows, whoever speaks is believed.
  bench.hear("gamma", shard::EndHolder{bench.holders[1], true, "its disk was lost"});
  bench.commit();
  CHECK(bench.all<shard::HolderEnded>().size() == 2);
}

TEST_CASE("a budget whose amount is lowered has its surplus recalled", "[cluster][owner]") {
  Bench bench;
  bench.ask(0, 1'000'000, 0, 0);
  bench.commit();
  bench.budgets[0].amount = {200'000};
  bench.set_budgets(bench.budgets);
  bench.commit();
  const auto recalls = bench.all<shard::Recall>();
  REQUIRE(recalls.size() == 1);
  CHECK(recalls[0].budgets[0].keep == PicoUsd{5'000});
  // Nothing is entered when nothing differs; one that the control log has no more is removed.
  const std::uint64_t index = bench.writer->next_index();
  bench.set_budgets(bench.budgets);
  CHECK(bench.writer->next_index() == index);
  bench.set_budgets({});
  CHECK(bench.writer->state().budgets().size() == 0);
}

TEST_CASE("a budget that was made anew with another scope limits by that", "[cluster][owner]") {
  Bench bench;
  bench.set_budgets({{"bud_1", "", *Scope::parse("organisation:birch"), {5}, BudgetPeriod::total, "UTC", false}});
  const storage::BudgetAccount* const account = bench.writer->state().budgets().find("bud_1");
  REQUIRE(account != nullptr);
  CHECK(account->status.budget.scope == *Scope::parse("organisation:birch"));
}

TEST_CASE("a commitment that follows one that has ended is not refused for overlapping it", "[cluster][owner]") {
  Bench bench;
  const auto commitment = [](const char* id) { return Commitment{id, "alpha", {}, CommitmentUnit::money, 10, {5}, 0, 4'000'000'000'000, false}; };
  ShardMoney money;
  money.commitments = {{commitment("com_b"), false, false}};
  REQUIRE(bench.owner->set_money(money));
  money.commitments = {{commitment("com_a"), false, false}, {commitment("com_b"), false, true}};
  REQUIRE(bench.owner->set_money(money));
  CHECK(bench.writer->state().commitments().find("com_a") != nullptr);
  CHECK(bench.writer->state().commitments().find("com_b")->status.ended);
}

}  // namespace outlast::cluster::shard_owner_test
