// The two sides of an allotment, without owners, holders or a network. All faults together: the simulation.
#include <catch2/catch.hpp>

#include "cluster/allotment_desk.hpp"
#include "cluster/allotment_keeper.hpp"
#include "cluster/shard_money.hpp"
#include "core/id.hpp"
#include "storage/memory_log.hpp"

namespace outlast::cluster::allotment_test {
namespace {

constexpr ShardId shards = 3;
constexpr std::int64_t day_ms = 86'400'000;
const Scope scope = *Scope::parse("tag:nightly");
const ShardId home_shard = home_of_crossing(scope, shards);
const ShardId shard_a = (home_shard + 1) % shards;
const ShardId shard_b = (home_shard + 2) % shards;

bool nobody(const std::string&) { return false; }

// One shard's owner, as far as allotments go.
struct Side {
  explicit Side(ShardId of) : shard(of), ids(clock, of + 1) {
    auto opened = storage::LedgerWriter::open_replica(log, clock);
    REQUIRE(opened);
    writer = std::move(*opened);
    REQUIRE(writer->lead(7, {ids.next(), "alpha", "test"}));
    begin();
  }
  // As a new owner does.
  void begin() {
    desk = std::make_unique<AllotmentDesk>(shard, shards, *writer, clock);
    keeper = std::make_unique<AllotmentKeeper>(shard, shards, *writer, clock);
  }
  void add(const proto::EntryBody& body) {
    const auto added = writer->add(body);
    REQUIRE(added);
    REQUIRE(added->outcome == storage::Outcome::applied);
  }
  void set(std::int64_t amount, BudgetPeriod period = BudgetPeriod::total, const char* id = "bud_1") {
    add(proto::BudgetSet{Budget{id, "", scope, {amount}, period, "UTC", false}, "control", 0, 0, shard != home_shard});
    if (shard != home_shard) keeper->introduce({id, false});
  }
  void reserve(std::int64_t amount) {
    Reservation reservation;
    reservation.request_id = ids.next();
    reservation.tenant = {"acme", "search", "ann"};
    reservation.tags = {"nightly"};
    reservation.price_known = true;
    reservation.amount = {amount};
    add(reservation);
  }
  void hear(const SendToShard& sent) {
    if (const auto* demand = std::get_if<shard::AllotmentDemand>(&sent.message.body)) REQUIRE(desk->receive(*demand));
    else REQUIRE(keeper->receive(std::get<shard::AllotmentTerms>(sent.message.body), nobody));
  }
  std::vector<SendToShard> commit() {
    desk->end_rounds();
    REQUIRE(keeper->deal(nobody));
    REQUIRE(desk->deal(nobody));
    REQUIRE(writer->commit());
    std::vector<SendToShard> said;
    desk->tell(said);
    keeper->tell(said);
    return said;
  }
  const BudgetStatus& budget(const char* id = "bud_1") const { return writer->state().budgets().find(id)->status; }
  std::int64_t part() const { return static_cast<std::int64_t>(budget().part().value); }

  const ShardId shard;
  ManualClock clock;
  UuidGenerator ids;
  storage::MemoryLog log;
  std::unique_ptr<storage::LedgerWriter> writer;
  std::unique_ptr<AllotmentDesk> desk;
  std::unique_ptr<AllotmentKeeper> keeper;
};

struct Three {
  Three() {
    for (Side* side : all()) sides[side->shard] = side;
  }
  std::vector<Side*> all() { return {&home, &a, &b}; }
  void set(std::int64_t amount, BudgetPeriod period = BudgetPeriod::total) {
    for (Side* side : all()) side->set(amount, period);
  }
  void advance_ms(std::int64_t ms) {
    for (Side* side : all()) side->clock.advance_ms(ms);
  }
  // Until nobody has anything to say.
  void settle() {
    for (int round = 0; round < 20; ++round) {
      std::vector<SendToShard> said;
      for (Side* side : all()) {
        for (SendToShard& one : side->commit()) said.push_back(std::move(one));
      }
      if (said.empty()) return;
      for (const SendToShard& one : said) sides[one.shard]->hear(one);
    }
    FAIL("they talk for ever");
  }
  Side home{home_shard};
  Side a{shard_a};
  Side b{shard_b};
  std::map<ShardId, Side*> sides;
};

TEST_CASE("a shard that is short gets what it needs, and no more is given than there is", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  CHECK(three.a.part() == 0);
  CHECK(three.a.keeper->ask("bud_1", 400));
  CHECK(three.a.keeper->is_asking("bud_1"));
  three.settle();
  CHECK_FALSE(three.a.keeper->is_asking("bud_1"));
  CHECK(three.a.part() == 400);
  CHECK(three.home.part() == 600);
  three.home.reserve(500);
  CHECK(three.b.keeper->ask("bud_1", 200));
  three.settle();
  // 100 were free at home, and 400 with the other shard.
  CHECK(three.b.part() == 200);
  CHECK(three.home.part() + three.a.part() + three.b.part() == 1'000);
}

TEST_CASE("an exhausted budget is not looked for again at once, but for less it is", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.home.reserve(900);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 200));
  three.settle();
  CHECK(three.a.part() == 0);
  CHECK_FALSE(three.a.keeper->ask("bud_1", 200));
  CHECK_FALSE(three.a.keeper->ask("bud_1", 300));
  CHECK(three.a.keeper->ask("bud_1", 100));
  three.settle();
  CHECK(three.a.part() == 100);
  three.advance_ms(600);
  CHECK(three.a.keeper->ask("bud_1", 200));
}

TEST_CASE("what nobody holds comes back when another shard is short", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 900));
  three.settle();
  three.a.reserve(300);
  CHECK(three.home.desk->recall("bud_1", 500));
  CHECK(three.home.desk->is_recalling("bud_1"));
  three.settle();
  CHECK_FALSE(three.home.desk->is_recalling("bud_1"));
  // All of it, of which some may go back ahead of need.
  CHECK(three.home.writer->state().budgets().find("bud_1")->allotments.at(shard_a).returned == 600);
  CHECK(three.home.part() >= 350);
  CHECK(three.home.part() + three.a.part() == 1'000);
}

TEST_CASE("a shard that does not answer a recall is waited for no longer than a round", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 900));
  three.settle();
  REQUIRE(three.home.desk->recall("bud_1", 500));
  three.home.commit();
  three.home.clock.advance_ms(400);
  three.home.commit();
  CHECK_FALSE(three.home.desk->is_recalling("bud_1"));
  // Nor is it asked again before it says something.
  three.home.clock.advance_ms(600);
  CHECK_FALSE(three.home.desk->recall("bud_1", 500));
}

TEST_CASE("messages that are lost, repeated or late change nothing in the end", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  const auto asked = three.a.commit();
  REQUIRE(asked.size() == 1);
  three.home.hear(asked[0]);
  three.home.hear(asked[0]);
  const auto lost = three.home.commit();
  REQUIRE(lost.size() == 1);
  CHECK(three.home.part() == 700);
  three.home.hear(asked[0]);  // late: it was answered
  three.settle();
  CHECK(three.home.part() == 700);
  three.advance_ms(600);
  three.settle();  // what was not confirmed is told again
  CHECK(three.a.part() == 300);
  for (int i = 0; i < 3; ++i) three.a.hear(lost[0]);
  three.settle();
  CHECK(three.a.part() == 300);
}

TEST_CASE("a confirmation that is lost is said again, and then nobody says anything", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  three.home.hear(three.a.commit().at(0));
  three.a.hear(three.home.commit().at(0));
  REQUIRE(three.a.commit().size() == 1);  // lost
  CHECK(three.a.part() == 300);
  three.advance_ms(600);
  three.settle();
  three.advance_ms(600);
  for (Side* side : three.all()) CHECK(side->commit().empty());
  // A new owner of the home knows nothing of what was confirmed.
  three.home.begin();
  three.settle();
  three.advance_ms(600);
  three.settle();
  three.advance_ms(600);
  for (Side* side : three.all()) CHECK(side->commit().empty());
}

TEST_CASE("a lowered amount calls parts back from a shard that did not hear it at first", "[cluster][allotment]") {
  const bool another_owner = GENERATE(false, true);
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 900));
  three.settle();
  three.set(200);
  three.home.commit();  // lost
  three.advance_ms(400);
  three.home.commit();
  if (another_owner) three.home.begin();
  three.advance_ms(11'000);
  three.settle();
  CHECK(three.home.part() + three.a.part() + three.b.part() == 200);
  CHECK(three.home.part() >= 0);
}

TEST_CASE("new owners of either side go on where the old ones stopped", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  const auto asked = three.a.commit();
  three.home.hear(asked[0]);
  three.home.commit();  // told, and lost with the process
  three.home.begin();
  three.a.begin();
  three.settle();
  CHECK(three.a.part() == 300);
  CHECK(three.home.part() == 700);
}

TEST_CASE("money of a new period is not spent in the old one", "[cluster][allotment]") {
  Three three;
  for (Side* side : three.all()) side->clock.advance_ms(day_ms - side->clock.wall_ms() % day_ms - 1'000);
  three.set(1'000, BudgetPeriod::day);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 600));
  three.settle();
  three.a.reserve(500);

  // The shard's day has ended: it returns what it could not have yesterday. The home, whose day has not, waits.
  three.a.clock.advance_ms(2'000);
  three.a.commit();
  REQUIRE(three.home.desk->recall("bud_1", 400));
  auto said = three.home.commit();
  REQUIRE(said.size() == 1);
  three.a.hear(said[0]);
  said = three.a.commit();
  REQUIRE(said.size() == 1);
  three.home.hear(said[0]);
  three.home.commit();
  CHECK(three.a.part() == 500);  // is held
  CHECK(three.home.writer->state().budgets().find("bud_1")->allotments.at(shard_a).returned == 0);
  three.home.clock.advance_ms(2'000);
  three.b.clock.advance_ms(2'000);
  three.home.commit();
  three.a.clock.advance_ms(600);
  three.settle();
  CHECK(three.home.part() + three.a.part() == 1'000);

  // And the other way: the home's day ends first.
  for (Side* side : three.all()) side->clock.advance_ms(day_ms - side->clock.wall_ms() % day_ms - 1'000);
  three.settle();
  three.home.clock.advance_ms(2'000);
  three.home.commit();
  REQUIRE(three.b.keeper->ask("bud_1", 50));
  three.home.hear(three.b.commit()[0]);
  const auto terms = three.home.commit();
  REQUIRE_FALSE(terms.empty());
  for (const SendToShard& one : terms) {
    if (one.shard == shard_b) three.b.hear(one);
  }
  three.b.commit();
  CHECK(three.b.part() == 0);
  three.b.clock.advance_ms(2'000);
  three.b.commit();
  three.home.clock.advance_ms(600);
  three.settle();
  CHECK(three.b.part() == 50);
}

TEST_CASE("an allotment of an earlier budget of the same id is void", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  three.settle();
  three.home.add(proto::BudgetRemoved{"bud_1", "control"});
  three.home.desk->forget({"bud_1", false});
  three.home.set(500);
  // The shard has not heard of it yet.
  three.a.keeper->introduce({"bud_1", false});
  three.settle();
  CHECK(three.a.part() == 0);
  CHECK(three.home.part() == 500);
}

TEST_CASE("a home believes no return of more than it gave, and nobody but itself of its shard", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  three.settle();
  const std::uint64_t opened = three.home.writer->state().budgets().find("bud_1")->allotments.at(shard_a).opened;
  shard::AllotmentAsk lie{"bud_1", false, opened, 300, 9'000, 0, 0, 0, 0, 0};
  REQUIRE(three.home.desk->receive({shard_a, {lie}}));
  three.home.commit();
  CHECK(three.home.part() == 1'000);
  lie.needed = 1'000'000;
  lie.ask = ~std::uint64_t{0};
  for (const ShardId from : {home_shard, shards, static_cast<ShardId>(60'000)}) REQUIRE(three.home.desk->receive({from, {lie}}));
  CHECK(three.home.commit().empty());
  shard::AllotmentTerm term{"bud_1", false, 99, 5'000, 0, 0, 0, 0};
  REQUIRE(three.a.keeper->receive({shard_b, {term}}, nobody));
  CHECK(three.a.part() == 300);
}

TEST_CASE("a lowered amount calls parts back", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 900));
  three.settle();
  for (Side* side : three.all()) {
    side->add(proto::BudgetSet{Budget{"bud_1", "", scope, {200}, BudgetPeriod::total, "UTC", false}, "control", 0, 0, side != &three.home});
  }
  CHECK(three.home.part() == -700);
  three.settle();
  CHECK(three.home.part() + three.a.part() == 200);
  CHECK(three.a.part() == 0);
}

TEST_CASE("what is drawn is asked for ahead of need, and not all of it", "[cluster][allotment]") {
  Three three;
  three.set(100'000);
  three.settle();
  REQUIRE(three.a.keeper->ask("bud_1", 100));
  three.settle();
  for (int i = 0; i < 5; ++i) {
    three.a.reserve(20);
    three.advance_ms(100);
    three.settle();
  }
  CHECK(three.a.part() > 150);
  CHECK(three.a.part() < 1'000);
}

TEST_CASE("an overdrawn budget opens allotments and gives nothing", "[cluster][allotment]") {
  Three three;
  const auto budget = [](bool soft) { return Budget{"bud_1", "", scope, {100}, BudgetPeriod::total, "UTC", soft}; };
  for (Side* side : three.all()) side->add(proto::BudgetSet{budget(true), "control", 0, 0, side != &three.home});
  three.home.reserve(150);
  for (Side* side : three.all()) side->add(proto::BudgetSet{budget(false), "control", 0, 0, side != &three.home});
  REQUIRE(three.home.part() == 100);
  REQUIRE(three.a.keeper->ask("bud_1", 10));
  three.settle();
  CHECK_FALSE(three.a.keeper->is_asking("bud_1"));
  CHECK(three.a.part() == 0);
}

TEST_CASE("a shard that forgot a budget takes in what is there, not all that ever was", "[cluster][allotment]") {
  Three three;
  three.set(1'000);
  three.settle();
  for (int i = 0; i < 3; ++i) {
    REQUIRE(three.a.keeper->ask("bud_1", 400));
    three.settle();
    REQUIRE(three.home.desk->recall("bud_1", 1'000));
    three.settle();
    three.advance_ms(600);
  }
  REQUIRE(three.a.keeper->ask("bud_1", 300));
  three.settle();
  // Removed and made anew: only this shard saw both.
  three.a.add(proto::BudgetRemoved{"bud_1", "control"});
  three.a.keeper->forget({"bud_1", false});
  three.a.set(1'000);
  three.settle();
  CHECK(three.a.part() == 300);
  CHECK(three.home.part() == 700);
}

// Three shards with one commitment, whose messages may be lost.
struct Bulk {
  explicit Bulk(bool shares) {
    for (ShardId shard = 0; shard < shards; ++shard) sides[shard] = std::make_unique<Side>(shard);
    for (auto& [shard, side] : sides) {
      side->add(proto::CommitmentAdded{commitment, "control", shard != home});
      if (shard != home) side->keeper->introduce({commitment.id, true});
      else if (shares) REQUIRE(side->desk->share(commitment.id));
    }
  }
  void run(int rounds, std::int64_t step_ms, bool lost = false) {
    for (int round = 0; round < rounds; ++round) {
      std::vector<SendToShard> said;
      for (auto& [shard, side] : sides) {
        side->clock.advance_ms(step_ms);
        for (SendToShard& one : side->commit()) said.push_back(std::move(one));
      }
      if (lost) continue;
      for (const SendToShard& one : said) sides[one.shard]->hear(one);
    }
  }
  void reserve(std::int64_t amount) {
    Reservation reservation;
    reservation.request_id = sides[busy]->ids.next();
    reservation.tenant = {"acme", "search", "ann"};
    reservation.price_known = true;
    reservation.amount = {amount};
    reservation.candidates = {{"alpha", "fable"}};
    sides[busy]->add(reservation);
  }
  std::int64_t part(ShardId shard) const {
    return static_cast<std::int64_t>(sides.at(shard)->writer->state().commitments().find("com_1")->status.part());
  }
  std::int64_t sum() const {
    std::int64_t sum = 0;
    for (ShardId shard = 0; shard < shards; ++shard) sum += part(shard);
    return sum;
  }
  const Commitment commitment{"com_1", "alpha", {}, CommitmentUnit::money, 4'800, {600}, 0, 4'000'000'000'000, false};
  const ShardId home = home_of_commitment(commitment.id, shards);
  const ShardId busy = static_cast<ShardId>((home + 1) % shards);
  const ShardId quiet = static_cast<ShardId>((home + 2) % shards);
  std::map<ShardId, std::unique_ptr<Side>> sides;
};

TEST_CASE("a shard asks for its first share of a commitment where nobody gave it", "[cluster][allotment]") {
  Bulk bulk(false);
  bulk.run(10, 100);
  CHECK(bulk.part(bulk.busy) > 0);
  CHECK(bulk.part(bulk.quiet) > 0);
  CHECK(bulk.sum() == 4'800);
}

TEST_CASE("a shard whose home could not hear for long goes on asking for more of a commitment", "[cluster][allotment]") {
  Bulk bulk(true);
  bulk.run(5, 100);
  bulk.reserve(bulk.part(bulk.busy));
  bulk.run(100, 100, true);
  const std::int64_t before = bulk.part(bulk.busy);
  bulk.run(20, 100);
  CHECK(bulk.part(bulk.busy) > before);
  CHECK(bulk.sum() == 4'800);
}

TEST_CASE("what no shard draws of a commitment goes home for those that do", "[cluster][allotment]") {
  Bulk bulk(true);
  bulk.run(5, 100);
  REQUIRE(bulk.part(bulk.quiet) == 800);
  bulk.run(10, 30'000);
  CHECK(bulk.part(bulk.quiet) == 100);
  CHECK(bulk.part(bulk.home) == 4'600);
  // A little stayed, so that who comes again gets more.
  bulk.reserve(100);
  bulk.run(20, 100);
  CHECK(bulk.part(bulk.busy) > 100);
  CHECK(bulk.sum() == 4'800);
}

TEST_CASE("a commitment is shared out at once, and then by use", "[cluster][allotment]") {
  Bulk bulk(true);
  bulk.run(5, 100);
  CHECK(bulk.part(bulk.busy) == 800);
  CHECK(bulk.part(bulk.home) == 3'200);
  bulk.reserve(700);
  bulk.run(20, 100);
  CHECK(bulk.part(bulk.busy) > 800);
  CHECK(bulk.part(bulk.quiet) == 800);
  CHECK(bulk.sum() == 4'800);
}

}  // namespace
}  // namespace outlast::cluster::allotment_test
