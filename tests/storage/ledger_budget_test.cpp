// What budgets, commitments and idempotency keys promise, each on its own.
#include <future>

#include "storage/entry_json.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::ledger_budget_test {
namespace {

constexpr std::int64_t day_ms = 24 * hour_ms;

Budget sample_budget(const std::string& scope, std::int64_t amount,
                     BudgetPeriod period = BudgetPeriod::total) {
  return {"bud_a", "research", *Scope::parse(scope), pico(amount), period, "UTC", false};
}

Commitment sample_commitment(const std::string& id, CommitmentUnit unit, std::int64_t units,
                             std::int64_t price, std::int64_t until_ms) {
  return {id, "alpha", {}, unit, units, pico(price), 0, until_ms, false};
}

struct Ledger {
  ManualClock clock;
  UuidGenerator ids{clock, 1};
  MemoryLog log;
  std::unique_ptr<LedgerWriter> writer;
  Ledger() { reopen(); }
  void reopen() {
    writer.reset();
    Result<std::unique_ptr<LedgerWriter>> opened =
        LedgerWriter::open(log, clock, ids.next(), "test");
    INFO((opened ? "" : opened.error().message));
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  template <class T>
  Applied run(const T& operation) {
    const Result<Applied> applied = writer->add(operation);
    REQUIRE(applied);
    REQUIRE(writer->commit());
    return *applied;
  }
  LedgerError refusal(const auto& operation) {
    const Applied applied = run(operation);
    REQUIRE(applied.outcome == Outcome::refused);
    return applied.error;
  }
  void set(const Budget& budget) {
    REQUIRE(run(proto::BudgetSet{budget, "ann", 0, 0}).outcome == Outcome::applied);
  }
  Reservation reservation(std::int64_t amount) {
    Reservation made = sample_reservation(ids.next());
    made.amount = pico(amount);
    made.candidates = {{"alpha", "claude-fable-5"}};
    return made;
  }
  BudgetStatus budget() { return writer->state().budgets().find("bud_a")->status; }
  CommitmentStatus commitment(const std::string& id) {
    return writer->state().commitments().find(id)->status;
  }
  VerifyReport verify() {
    REQUIRE(writer->finish());
    const Result<VerifyReport> report = verify_ledger(log);
    REQUIRE(report);
    return *report;
  }
};

template <class Start>
Result<void> wait_for(const Start& start) {
  std::promise<Result<void>> promise;
  std::future<Result<void>> future = promise.get_future();
  start([&promise](Result<void> result) { promise.set_value(std::move(result)); });
  REQUIRE(future.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  return future.get();
}

}  // namespace

TEST_CASE("a hard budget holds the worst case, and what it did not cost returns", "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("team:acme/search", 1'000));
  const Reservation first = ledger.reservation(600);
  CHECK(ledger.run(first).outcome == Outcome::applied);
  CHECK(ledger.refusal(ledger.reservation(401)) == LedgerError::budget_exhausted);
  CHECK(ledger.writer->state().shortfall().left == pico(400));
  CHECK(ledger.run(ledger.reservation(400)).outcome == Outcome::applied);
  CHECK(ledger.run(sample_settlement(first.request_id, 100)).outcome == Outcome::applied);
  CHECK(ledger.budget().used == pico(100));
  CHECK(ledger.budget().held == pico(400));
  CHECK(ledger.budget().left() == pico(500));
  CHECK(ledger.verify().ok);
}

TEST_CASE("an extension adds to the worst case or changes nothing", "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("organisation:acme", 1'000));
  const Reservation request = ledger.reservation(600);
  const RequestId id = request.request_id;
  ledger.run(request);
  CHECK(ledger.run(ReservationExtension{id, 1, pico(300), 50, false}).outcome == Outcome::applied);
  CHECK(ledger.run(ReservationExtension{id, 1, pico(300), 50, false}).outcome ==
        Outcome::duplicate);
  CHECK(ledger.refusal(ReservationExtension{id, 1, pico(299), 50, false}) ==
        LedgerError::duplicate);
  CHECK(ledger.refusal(ReservationExtension{id, 2, pico(101), 50, false}) ==
        LedgerError::budget_exhausted);
  CHECK(ledger.refusal(ReservationExtension{id, 0, pico(1), 0, false}) == LedgerError::invalid);
  CHECK(ledger.refusal(ReservationExtension{id, 3, amount_max, 0, false}) == LedgerError::invalid);
  CHECK(ledger.refusal(ReservationExtension{ledger.ids.next(), 1, pico(1), 0, false}) ==
        LedgerError::unknown_request);
  CHECK(ledger.budget().held == pico(900));
  const Applied settled = ledger.run(sample_settlement(id, 950));
  CHECK(settled.overrun == pico(50));  // beyond 900: the tenant's, in no hard budget
  CHECK(ledger.budget().used == pico(900));
  CHECK(ledger.refusal(ReservationExtension{id, 4, pico(1), 0, false}) ==
        LedgerError::already_ended);
  CHECK(ledger.verify().ok);
}

TEST_CASE("a soft budget counts all and refuses nothing", "[ledger][money]") {
  Ledger ledger;
  Budget budget = sample_budget("key:key_ann", 100);
  budget.soft = true;
  ledger.set(budget);
  const Reservation request = ledger.reservation(600);
  CHECK(ledger.run(request).outcome == Outcome::applied);
  CHECK(ledger.run(sample_settlement(request.request_id, 700)).outcome == Outcome::applied);
  CHECK(ledger.budget().used == pico(700));
  CHECK(ledger.verify().ok);
}

TEST_CASE("a budget on a provider pays only for attempts that went there", "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("provider:alpha", 1'000));
  Reservation request = ledger.reservation(600);
  request.candidates.push_back({"beta", "gpt-fable"});
  ledger.run(request);
  CHECK(ledger.budget().held == pico(600));
  AttemptLine elsewhere = sample_attempt(request.request_id, 1, AttemptStatus::cut, 200);
  elsewhere.provider = "beta";
  ledger.run(elsewhere);
  ledger.run(sample_settlement(request.request_id, 300, 2));
  CHECK(ledger.budget().used == pico(300));
  CHECK(ledger.budget().held.value == 0);
  CHECK(ledger.verify().ok);
}

TEST_CASE("a clock set a day forward and back resets a daily budget once", "[ledger][money]") {
  Ledger ledger;
  ledger.clock.set_wall_ms(1'750'032'000'000 - hour_ms);  // 23:00 UTC
  ledger.set(sample_budget("organisation:acme", 1'000, BudgetPeriod::day));
  const auto spend = [&ledger](std::int64_t amount) {
    const Reservation request = ledger.reservation(amount);
    const Applied applied = ledger.run(request);
    if (applied.outcome == Outcome::applied) ledger.run(sample_settlement(request.request_id, amount));
    return applied.outcome == Outcome::applied;
  };
  CHECK(spend(1'000));
  CHECK_FALSE(spend(1));
  ledger.clock.set_wall_ms(ledger.clock.wall_ms() + day_ms);
  CHECK(spend(900));
  CHECK(ledger.budget().used == pico(900));
  const std::int64_t end_ms = ledger.budget().period_end_ms;
  ledger.clock.set_wall_ms(ledger.clock.wall_ms() - day_ms);
  CHECK_FALSE(spend(101));
  ledger.clock.advance_ms(day_ms);  // where it was
  CHECK_FALSE(spend(101));
  CHECK(ledger.budget().period_end_ms == end_ms);
  ledger.clock.set_wall_ms(end_ms);
  CHECK(spend(1'000));
  std::size_t rolls = 0;
  REQUIRE(read_entries(ledger.log, 0, [&rolls](const StoredEntry& entry) {
    rolls += entry.kind() == EntryKind::budget_rolled ? 1 : 0;
    return true;
  }));
  CHECK(rolls == 2);
  CHECK(ledger.verify().ok);
}

TEST_CASE("a request is charged to the period in which it settles", "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("organisation:acme", 1'000, BudgetPeriod::day));
  const Reservation request = ledger.reservation(600);
  ledger.run(request);
  ledger.clock.advance_ms(day_ms);
  CHECK(ledger.refusal(ledger.reservation(401)) == LedgerError::budget_exhausted);
  ledger.run(sample_settlement(request.request_id, 500));
  CHECK(ledger.budget().used == pico(500));
  CHECK(ledger.verify().ok);
}

TEST_CASE("a request spans the end of one commitment, the next, and on demand", "[ledger][money]") {
  Ledger ledger;
  const std::int64_t now = ledger.clock.wall_ms();
  // 40 tokens for 10 pico-USD expire first, then 300 pico-USD at list price for 150.
  ledger.run(proto::CommitmentAdded{
      sample_commitment("com_t", CommitmentUnit::tokens, 40, 10, now + day_ms), "ann"});
  ledger.run(proto::CommitmentAdded{
      sample_commitment("com_m", CommitmentUnit::money, 300, 150, now + 2 * day_ms), "ann"});
  Reservation request = ledger.reservation(1'000);
  request.input_tokens_max = 90;
  request.output_tokens_max = 10;
  ledger.run(request);
  CHECK((ledger.commitment("com_t").held == 40));
  CHECK((ledger.commitment("com_m").held == 300));
  // Another finds nothing left to hold, and takes nothing from the first.
  const Reservation other = ledger.reservation(1'000);
  ledger.run(other);
  ledger.run(sample_settlement(other.request_id, 470));
  CHECK((ledger.commitment("com_t").used == 0));
  // 47 tokens for 470: 40 of the tokens cover 400, money the other 70.
  ledger.run(sample_settlement(request.request_id, 470));
  CHECK((ledger.commitment("com_t").used == 40));
  CHECK((ledger.commitment("com_t").list_cost == pico(400)));
  CHECK((ledger.commitment("com_t").amortised == pico(10)));
  CHECK((ledger.commitment("com_m").used == 70));
  CHECK((ledger.commitment("com_m").amortised == pico(35)));
  CHECK((ledger.commitment("com_m").held == 0));
  const VerifyReport report = ledger.verify();
  INFO(report.problem);
  CHECK(report.ok);
  CHECK(report.charged == pico(940));
  CHECK(report.payable == pico(470));
  CHECK(report.amortised == pico(45));
  CHECK(report.savings == pico(425));
}

TEST_CASE("a commitment that has expired gives only what is held of it, unless it rolls over",
          "[ledger][money]") {
  for (const bool rollover : {false, true}) {
    Ledger ledger;
    const std::int64_t now = ledger.clock.wall_ms();
    Commitment commitment =
        sample_commitment("com_m", CommitmentUnit::money, 1'000, 1'000, now + hour_ms);
    commitment.rollover = rollover;
    ledger.run(proto::CommitmentAdded{commitment, "ann"});
    const Reservation request = ledger.reservation(300);
    ledger.run(request);
    ledger.clock.advance_ms(2 * hour_ms);
    ledger.run(sample_settlement(request.request_id, 400));
    CHECK((ledger.commitment("com_m").used == (rollover ? 400 : 300)));
    CHECK(ledger.verify().ok);
  }
}

TEST_CASE("commitments that overlap are refused, and the other one is named", "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  const auto add = [&store](const Commitment& commitment) {
    return wait_for([&](auto done) { store->add_commitment(commitment, "ann", done); });
  };
  Commitment first = sample_commitment("com_1", CommitmentUnit::tokens, 40, 10, 1'000);
  first.models = {"m1", "m2"};
  REQUIRE(add(first));
  REQUIRE(add(first));  // the same again
  Commitment other = first;
  other.price = pico(11);
  CHECK(is(add(other).error(), LedgerError::duplicate));
  other.id = "com_2";
  other.models = {"m2", "m3"};
  const Result<void> overlap = add(other);
  REQUIRE_FALSE(overlap);
  CHECK(is(overlap.error(), LedgerError::overlap));
  CHECK(overlap.error().message.find("com_1") != std::string::npos);
  other.models = {"m3"};
  CHECK(add(other));
  other = first;
  other.id = "com_3";
  other.until_ms = 1'001;
  CHECK(add(other));
  other.until_ms = other.from_ms;
  CHECK(is(add(other).error(), LedgerError::invalid));
  other.until_ms = 5'000;
  other.units = 0;
  CHECK(add(other).error().message.find("more than 0") != std::string::npos);
  CHECK(is(wait_for([&](auto done) { store->end_commitment("com_9", "ann", done); }).error(),
           LedgerError::unknown_commitment));
  REQUIRE(wait_for([&](auto done) { store->end_commitment("com_1", "ann", done); }));
  CHECK(store->commitments().size() == 3);
  CHECK(store->commitments()[0].ended);
  require_whole(*store);
}

TEST_CASE("a budget that is not well formed is refused with what would be right",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  const auto error_of = [&store](const Budget& budget) {
    const Result<void> set =
        wait_for([&](auto done) { store->set_budget(budget, "ann", done); });
    REQUIRE_FALSE(set);
    CHECK(is(set.error(), LedgerError::invalid));
    return set.error().message;
  };
  const Budget good = sample_budget("organisation:acme", 5);
  Budget bad = good;
  bad.amount = {amount_max.value + 1};
  CHECK(error_of(bad).find("10^18") != std::string::npos);
  bad.amount = pico(-1);
  CHECK(error_of(bad).find("10^18") != std::string::npos);
  bad = good;
  bad.time_zone = "Mars/Olympus";
  CHECK(error_of(bad).find("Europe/Berlin") != std::string::npos);
  bad = good;
  bad.scope.value = "acme/search";
  CHECK(error_of(bad).find("ORGANISATION") != std::string::npos);
  bad = good;
  bad.id = "";
  error_of(bad);
  CHECK(store->budgets().empty());
  REQUIRE(wait_for([&](auto done) { store->set_budget(good, "ann", done); }));
  bad = good;
  bad.scope.value = "other";  // of the same id
  error_of(bad);
  CHECK(is(wait_for([&](auto done) { store->remove_budget("bud_x", "ann", done); }).error(),
           LedgerError::unknown_budget));
  CHECK(store->budget_book()->by_scope.size() == 1);
  REQUIRE(wait_for([&](auto done) { store->remove_budget("bud_a", "ann", done); }));
  CHECK(store->budget_book()->by_scope.empty());
  require_whole(*store);
}

TEST_CASE("a request with an idempotency key is charged once, also after a restart",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  UuidGenerator ids(clock, 1);
  const auto with_key = [&ids](std::uint8_t parameters) {
    Reservation made = sample_reservation(ids.next());
    made.idempotency.emplace();
    made.idempotency->key.fill(1);
    made.idempotency->parameters.fill(parameters);
    return made;
  };
  const Reservation first = with_key(2);
  {
    const auto store = open_store(folder.path(), clock);
    WaitingSubmitter lane(*store);
    CHECK_FALSE(lane.run(first));
    CHECK_FALSE(lane.run(first));  // the same request again
    for (int i = 0; i < 4; ++i) CHECK(is(*lane.run(with_key(2)), LedgerError::in_progress));
    CHECK(is(*lane.run(with_key(3)), LedgerError::mismatch));
    CHECK_FALSE(lane.run(sample_settlement(first.request_id)));
    CHECK(is(*lane.run(with_key(2)), LedgerError::duplicate));
    require_whole(*store);
  }
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  CHECK(is(*lane.run(with_key(2)), LedgerError::duplicate));
  CHECK(is(*lane.run(with_key(3)), LedgerError::mismatch));
  CHECK(store->usage({})->total.requests == 1);
  require_whole(*store);
}

TEST_CASE("an idempotency key may be used again after 35 days", "[ledger][money]") {
  Ledger ledger;
  const auto with_key = [&ledger] {
    Reservation made = ledger.reservation(5);
    made.idempotency.emplace();
    return made;
  };
  const Reservation first = with_key();
  CHECK(ledger.run(first).outcome == Outcome::applied);
  ledger.run(sample_settlement(first.request_id, 1));
  ledger.clock.advance_ms(dedup_age_ms_max);
  CHECK(ledger.refusal(with_key()) == LedgerError::duplicate);
  ledger.clock.advance_ms(1);
  CHECK(ledger.run(with_key()).outcome == Outcome::applied);
  CHECK(ledger.refusal(with_key()) == LedgerError::in_progress);
  CHECK(ledger.verify().ok);
}

TEST_CASE("slices hold at most 5 % of a budget, and nothing is granted when little is free",
          "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("organisation:acme", 1'000'000));
  const auto book = ledger.writer->make_budget_book();
  std::shared_ptr<BudgetSlice> slice;
  const Reservation probe = ledger.reservation(100);
  book->by_scope.visit({probe.tenant, probe.key_id, probe.tags, probe.candidates},
                       [&slice](const BudgetBook::Entry& entry) { slice = entry.slice; });
  REQUIRE(slice != nullptr);
  CHECK_FALSE(slice->take(pico(100)));
  ledger.run(ledger.reservation(100));
  CHECK(slice->left() == pico(800));  // eight times the largest
  CHECK(ledger.budget().sliced == pico(800));
  for (int i = 0; i < 200; ++i) {
    Reservation request = ledger.reservation(10'000);
    request.from_slices = slice->take(request.amount);
    ledger.run(request);
    ledger.run(VoidReservation{request.request_id, "refused"});
    if (request.from_slices) slice->give(request.amount);
    REQUIRE(ledger.budget().sliced.value <= 50'000 + 10'000);
    REQUIRE(slice->left() == ledger.budget().sliced);
  }
  CHECK(ledger.budget().sliced.value > 10'000);
  // Until less than a tenth is free: then only what is taken back moves.
  ledger.run(ledger.reservation(960'000));
  CHECK(ledger.budget().sliced.value == 0);
  CHECK(slice->left().value == 0);
  CHECK_FALSE(slice->take(pico(100)));
  ledger.run(ledger.reservation(100));
  CHECK(ledger.budget().sliced.value == 0);
  CHECK(ledger.verify().ok);
}

TEST_CASE("a slice's money given back ahead of the ledger is not returned to the pool",
          "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("organisation:acme", 10'000));
  const auto book = ledger.writer->make_budget_book();
  std::shared_ptr<BudgetSlice> slice;
  Reservation covered = ledger.reservation(50);
  book->by_scope.visit({covered.tenant, covered.key_id, covered.tags, covered.candidates},
                       [&slice](const BudgetBook::Entry& entry) { slice = entry.slice; });
  CHECK_FALSE(slice->take(pico(50)));
  ledger.run(ledger.reservation(50));
  Reservation early = ledger.reservation(400);
  REQUIRE(slice->take(early.amount));
  early.from_slices = true;
  ledger.run(early);
  // A lane has settled `early` and given 400 back, and taken 50 for `covered`; the ledger knows
  // neither yet, when another reservation is short.
  const std::int64_t sliced = static_cast<std::int64_t>(ledger.budget().sliced.value);
  slice->give(pico(400));
  REQUIRE(slice->take(pico(50)));
  covered.from_slices = true;
  const auto pool = static_cast<std::int64_t>(
      ledger.budget().left().value - ledger.budget().sliced.value);
  CHECK(ledger.refusal(ledger.reservation(pool + sliced - 49)) == LedgerError::budget_exhausted);
  CHECK(ledger.run(ledger.reservation(pool + sliced - 50)).outcome == Outcome::applied);
  CHECK(ledger.run(covered).outcome == Outcome::applied);
  CHECK(ledger.run(VoidReservation{early.request_id, "refused"}).outcome == Outcome::applied);
  CHECK(ledger.budget().sliced == pico(400));
  CHECK(slice->left() == pico(400));
  CHECK(ledger.verify().ok);
}

TEST_CASE("rows of budgets and commitments that do not follow from the log are found",
          "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("organisation:acme", 10'000));
  ledger.run(proto::CommitmentAdded{
      sample_commitment("com_1", CommitmentUnit::tokens, 400, 10, ledger.clock.wall_ms() + day_ms),
      "ann"});
  const Reservation open = ledger.reservation(50);
  ledger.run(open);
  Reservation keyed = ledger.reservation(50);
  keyed.idempotency.emplace();
  ledger.run(keyed);
  REQUIRE(ledger.verify().ok);
  const auto flip = [&ledger](const std::string& prefix, Table table = Table::meta) {
    for (auto& [key, value] : ledger.log.rows(table)) {
      if (key.starts_with(prefix)) value.back() = static_cast<char>(value.back() ^ 1);
    }
    const Result<VerifyReport> report = verify_ledger(ledger.log);
    REQUIRE(report);
    CHECK_FALSE(report->ok);
    return report->problem;
  };
  SECTION("a budget") { CHECK(flip("l").find("budget") != std::string::npos); }
  SECTION("a commitment") { CHECK(flip("c").find("commitment") != std::string::npos); }
  SECTION("an open reservation") {
    CHECK(flip("o").find("open reservation") != std::string::npos);
  }
  SECTION("an idempotency key") {
    CHECK(flip("", Table::idempotency).find("idempotency") != std::string::npos);
  }
  SECTION("a budget is gone") {
    ledger.log.rows(Table::meta).erase("lbud_a");
    CHECK_FALSE(verify_ledger(ledger.log)->ok);
  }
}

TEST_CASE("entries about money print as JSON", "[ledger][money]") {
  Ledger ledger;
  ledger.set(sample_budget("team:acme/search", 1'000));
  std::string json;
  REQUIRE(read_entries(ledger.log, 1, [&json](const StoredEntry& entry) {
    append_entry_json(json, entry);
    return true;
  }));
  CHECK(json.find(R"("kind":"budget_set")") != std::string::npos);
  CHECK(json.find(R"("budget":"bud_a","name":"research","scope":"team:acme/search",)"
                  R"("amount_pico_usd":"1000","period":"total","time_zone":"UTC","soft":false)") !=
        std::string::npos);
}

}  // namespace outlast::storage::ledger_budget_test
