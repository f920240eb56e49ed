// Holders of slices in a cluster's ledger, one case at a time; and what a replica refuses to follow.
#include "storage/entry_json.hpp"
#include "storage/money_rows.hpp"
#include "tests/storage/money_compare.hpp"
#include "tests/storage/owned_ledger.hpp"

namespace outlast::storage::ledger_holders_test {
namespace {

constexpr std::int64_t day_ms = 24 * hour_ms;

}  // namespace

TEST_CASE("a holder's slice pays for its reservations, and their ends give back", "[ledger][cluster]") {
  OwnedLedger ledger;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(1'000), ledger.a}) == Outcome::applied);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(500), ledger.b}) == Outcome::applied);
  CHECK(ledger.status().sliced == pico(1'500));
  const Reservation first = ledger.reservation(ledger.a, 400);
  CHECK(ledger.add(first) == Outcome::applied);
  CHECK(ledger.slice(ledger.a).left == pico(600));
  CHECK(ledger.slice(ledger.b).left == pico(500));
  CHECK(ledger.add(ReservationExtension{first.request_id, 1, pico(100), 5, true}) ==
        Outcome::applied);
  CHECK(ledger.slice(ledger.a).left == pico(500));
  CHECK(ledger.add(sample_settlement(first.request_id, 450)) == Outcome::applied);
  CHECK(ledger.slice(ledger.a).left == pico(550));
  CHECK(ledger.status().used == pico(450));
  CHECK(ledger.add(proto::SliceReturned{"bud", pico(50), ledger.a}) == Outcome::applied);
  CHECK(ledger.refusal(proto::SliceReturned{"bud", pico(501), ledger.a}) == LedgerError::invalid);
  const SliceAccount slice = ledger.slice(ledger.a);
  CHECK(slice.left == pico(500));
  CHECK(slice.granted == pico(1'000));
  CHECK(slice.returned == pico(50));
  CHECK(ledger.status().sliced == pico(1'000));
  ledger.require_whole();
}

TEST_CASE("what a holder's slice does not cover comes from the pool, as long as that covers it",
          "[ledger][cluster]") {
  OwnedLedger ledger;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(9'000), ledger.a}) == Outcome::applied);
  const Reservation one = ledger.reservation(ledger.b, 700);
  CHECK(ledger.add(one) == Outcome::applied);
  CHECK(ledger.refusal(ledger.reservation(ledger.b, 700)) == LedgerError::budget_exhausted);
  CHECK(ledger.refusal(ledger.reservation(ledger.b, 700, false)) == LedgerError::budget_exhausted);
  CHECK(ledger.slice(ledger.a).left == pico(9'000));  // nobody takes another's
  CHECK(ledger.add(VoidReservation{one.request_id, "refused"}) == Outcome::applied);
  CHECK(ledger.status().held == pico(0));
  ledger.require_whole();
}

TEST_CASE("slices and open reservations outlive owners, and restarts", "[ledger][cluster]") {
  OwnedLedger ledger;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(1'000), ledger.a}) == Outcome::applied);
  const Reservation one = ledger.reservation(ledger.a, 400);
  CHECK(ledger.add(one) == Outcome::applied);
  REQUIRE((GENERATE(false, true) ? ledger.writer->finish() : ledger.writer->commit()));
  ledger.lead();
  CHECK(ledger.writer->epoch() == 2);
  CHECK(ledger.writer->in_doubt_settled() == 0);
  CHECK(ledger.slice(ledger.a).left == pico(600));
  CHECK(ledger.writer->state().is_open(one.request_id));
  CHECK(ledger.writer->state().holders() == std::vector<Incarnation>{ledger.a});
  CHECK(ledger.add(sample_settlement(one.request_id, 100)) == Outcome::applied);
  CHECK(ledger.slice(ledger.a).left == pico(900));
  ledger.require_whole();
}

TEST_CASE("a holder ends once nothing of it is open, and nothing it says later counts",
          "[ledger][cluster]") {
  OwnedLedger ledger;
  const bool spent = GENERATE(false, true);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(1'000), ledger.a}) == Outcome::applied);
  const Reservation one = ledger.reservation(ledger.a, 400);
  const Reservation other = ledger.reservation(ledger.b, 300, false);
  CHECK(ledger.add(one) == Outcome::applied);
  CHECK(ledger.add(other) == Outcome::applied);
  CHECK(ledger.refusal(proto::HolderEnded{ledger.a, spent, ""}) == LedgerError::in_progress);
  const Result<Applied> ended = ledger.writer->end_holder(ledger.a, spent, "its lease ended");
  REQUIRE(ended);
  CHECK(ended->outcome == Outcome::applied);
  CHECK(ledger.writer->in_doubt_settled() == 1);
  CHECK(ledger.status().sliced == pico(0));
  CHECK(ledger.status().used == pico(spent ? 1'000 : 400));
  CHECK(ledger.writer->state().is_open(other.request_id));  // another's
  CHECK(ledger.writer->state().holders() == std::vector<Incarnation>{ledger.b});
  for (const bool restarted : {false, true}) {
    if (restarted) {
      REQUIRE(ledger.writer->finish());
      ledger.lead();
    }
    CHECK(ledger.add(one) == Outcome::duplicate);
    CHECK(ledger.refusal(sample_settlement(one.request_id, 3)) == LedgerError::already_ended);
    CHECK(ledger.refusal(ledger.reservation(ledger.a, 1)) == LedgerError::unknown_holder);
    CHECK(ledger.refusal(ledger.reservation(ledger.a, 1, false)) == LedgerError::unknown_holder);
    CHECK(ledger.refusal(proto::SliceGranted{"bud", pico(1), ledger.a}) ==
          LedgerError::unknown_holder);
    CHECK(ledger.refusal(proto::SliceReturned{"bud", pico(1), ledger.a}) ==
          LedgerError::unknown_holder);
    const Result<Applied> again = ledger.writer->end_holder(ledger.a, !spent, "twice");
    REQUIRE(again);
    CHECK(again->outcome == Outcome::duplicate);
  }
  ledger.require_whole();
}

TEST_CASE("a holder that has nothing ends without an entry", "[ledger][cluster]") {
  OwnedLedger ledger;
  REQUIRE(ledger.writer->commit());
  const std::uint64_t next = ledger.writer->next_index();
  const Result<Applied> ended = ledger.writer->end_holder(ledger.a, true, "its lease ended");
  REQUIRE(ended);
  CHECK(ended->outcome == Outcome::duplicate);
  CHECK(ledger.writer->next_index() == next);
  CHECK(ledger.refusal(proto::HolderEnded{{}, true, ""}) == LedgerError::invalid);
}

TEST_CASE("an ended holder is forgotten when its requests' ids are too old", "[ledger][cluster]") {
  OwnedLedger ledger;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(10), ledger.a}) == Outcome::applied);
  CHECK(ledger.add(proto::HolderEnded{ledger.a, false, ""}) == Outcome::applied);
  REQUIRE(ledger.writer->finish());
  ledger.clock.advance_ms(35 * day_ms + 1);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(10), ledger.b}) == Outcome::applied);
  CHECK(ledger.writer->state().has_ended(ledger.a));
  CHECK(ledger.add(proto::HolderEnded{ledger.b, false, ""}) == Outcome::applied);
  CHECK_FALSE(ledger.writer->state().has_ended(ledger.a));
  CHECK(ledger.writer->state().has_ended(ledger.b));
  REQUIRE(ledger.writer->finish());
  ledger.lead();
  CHECK_FALSE(ledger.writer->state().has_ended(ledger.a));
  CHECK(ledger.writer->state().has_ended(ledger.b));
  ledger.require_whole();
}

TEST_CASE("a slice ends when its budget becomes soft, and the next one is told apart",
          "[ledger][cluster]") {
  OwnedLedger ledger;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(1'000), ledger.a}) == Outcome::applied);
  const SliceAccount before = ledger.slice(ledger.a);
  const Reservation one = ledger.reservation(ledger.a, 400);
  CHECK(ledger.add(one) == Outcome::applied);
  REQUIRE(ledger.writer->finish());
  Budget budget = OwnedLedger::budget();
  budget.soft = true;
  CHECK(ledger.add(proto::BudgetSet{budget, "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.status().sliced == pico(0));
  budget.soft = false;
  CHECK(ledger.add(proto::BudgetSet{budget, "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.refusal(proto::SliceReturned{"bud", pico(1), ledger.a}) == LedgerError::invalid);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(70), ledger.a}) == Outcome::applied);
  CHECK(ledger.slice(ledger.a).granted == pico(70));
  CHECK(ledger.slice(ledger.a).opened > before.opened);
  REQUIRE((GENERATE(false, true) ? ledger.writer->finish() : ledger.writer->commit()));
  ledger.lead();
  // What it took from the slice that ended returns to the pool.
  CHECK(ledger.add(VoidReservation{one.request_id, "refused"}) == Outcome::applied);
  CHECK(ledger.slice(ledger.a).left == pico(70));
  CHECK(ledger.status().held == pico(0));
  ledger.require_whole();
}

TEST_CASE("a process that starts ends its own slices, not those of holders", "[ledger][cluster]") {
  ManualClock clock;
  UuidGenerator ids(clock, 1);
  MemoryLog log;
  const Incarnation holder = ids.next();
  {
    const auto writer = LedgerWriter::open(log, clock, ids.next(), "test");
    REQUIRE(writer);
    REQUIRE((*writer)->add(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0}));
    REQUIRE((*writer)->add(proto::SliceGranted{"bud", pico(300), holder}));
    REQUIRE((*writer)->add(proto::SliceGranted{"bud", pico(200)}));
    REQUIRE((*writer)->finish());
  }
  const auto writer = LedgerWriter::open(log, clock, ids.next(), "test");
  REQUIRE(writer);
  const BudgetAccount& account = *(*writer)->state().budgets().find("bud");
  CHECK(account.status.sliced == pico(300));
  CHECK(account.own.left == pico(0));
  CHECK(BudgetState::slice_of(account, holder)->left == pico(300));
}

TEST_CASE("many reservations of a holder are settled in batches that a shared log takes",
          "[ledger][cluster]") {
  OwnedLedger ledger;
  for (int i = 0; i < 3'000; ++i) {
    CHECK(ledger.add(ledger.reservation(ledger.a, 1, false)) == Outcome::applied);
    if (i % 100 == 0) REQUIRE(ledger.writer->commit());
  }
  REQUIRE(ledger.writer->commit());
  const std::uint64_t first = ledger.writer->next_index();
  const Result<Applied> ended = ledger.writer->end_holder(ledger.a, true, "its lease ended");
  REQUIRE(ended);
  REQUIRE(ledger.writer->commit());
  CHECK(ledger.writer->next_index() == first + 3'000);
  std::size_t batches = 0;
  for (const SharedBatches::Batch& batch : ledger.shared.from(first)) {
    ++batches;
    CHECK(batch.records.size() < LedgerWriter::end_holder_batch_bytes + 4'096);
  }
  CHECK(batches > 3);
  CHECK(ledger.status().used == pico(3'000));
  ledger.require_whole();
}

TEST_CASE("only the owner writes, and only of the latest epoch", "[ledger][cluster]") {
  OwnedLedger ledger;
  REQUIRE(ledger.writer->commit());
  ledger.reopen();
  CHECK(ledger.writer->is_replica());
  const std::uint64_t next = ledger.writer->next_index();
  const Result<Applied> added = ledger.writer->add(ledger.reservation(ledger.a, 1));
  REQUIRE_FALSE(added);
  CHECK(is(added.error(), LedgerError::fenced));
  ledger.clock.advance_ms(40 * day_ms);
  ledger.writer->roll_periods();
  REQUIRE(ledger.writer->commit());
  CHECK(ledger.writer->next_index() == next);
  const Result<void> led = ledger.writer->lead(0, {ledger.a, "node-a", "test"});
  REQUIRE_FALSE(led);
  CHECK(is(led.error(), LedgerError::fenced));
  ledger.reopen();
  CHECK_FALSE(ledger.writer->lead(2, {{}, "node-a", "test"}));
  ledger.reopen();
  ledger.log.leading = true;
  REQUIRE(ledger.writer->lead(2, {ledger.a, "node-a", "test"}));
  CHECK_FALSE(ledger.writer->is_replica());
}

TEST_CASE("what came as an entry's body is added as its operation", "[ledger][cluster]") {
  OwnedLedger ledger;
  const Reservation one = ledger.reservation(ledger.a, 500, false);
  const Reservation two = ledger.reservation(ledger.a, 500, false);
  CHECK(ledger.add(proto::EntryBody(one)) == Outcome::applied);
  CHECK(ledger.add(proto::EntryBody(two)) == Outcome::applied);
  // The overrun is the ledger's to say.
  const proto::EntryBody settled = proto::Settled{sample_settlement(one.request_id, 800), pico(7)};
  CHECK(ledger.apply(settled) == Applied{Outcome::applied, {}, pico(300)});
  CHECK(ledger.add(settled) == Outcome::duplicate);
  CHECK(ledger.add(proto::EntryBody(proto::Voided{{two.request_id, "refused"}, pico(9)})) ==
        Outcome::applied);
  const VirtualKey key{"key_a", {"acme", "search", "ann"}, "", {}, 1, std::nullopt};
  CHECK(ledger.add(proto::EntryBody(proto::KeyCreated{key})) == Outcome::applied);
  CHECK(ledger.refusal(proto::EntryBody(proto::IncarnationStarted{ledger.a, "x"})) ==
        LedgerError::invalid);
  CHECK(ledger.refusal(proto::EntryBody(proto::OwnerStarted{ledger.a, "x", "x"})) ==
        LedgerError::invalid);
  ledger.require_whole();
}

TEST_CASE("a changed row of a slice, of a holder or of what one reserved is found", "[ledger][cluster]") {
  OwnedLedger ledger;
  const Incarnation& a = ledger.a;
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(10), ledger.b}) == Outcome::applied);
  CHECK(ledger.add(proto::HolderEnded{ledger.b, false, ""}) == Outcome::applied);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(1'000), a}) == Outcome::applied);
  const Reservation one = ledger.reservation(a, 400);
  CHECK(ledger.add(one) == Outcome::applied);
  REQUIRE(ledger.writer->finish());
  ledger.require_whole();
  auto& rows = ledger.log.rows(Table::meta);
  const auto is_whole = [&ledger] {
    const Result<VerifyReport> report = verify_ledger(ledger.log);
    return report && report->ok;
  };
  for (const std::string& key :
       {slice_key(a, "bud"), ended_holder_key(ledger.b), open_key(one.request_id)}) {
    REQUIRE(rows.contains(key));
    const std::string good = rows[key];
    for (std::size_t at = 0; at < good.size(); ++at) {
      rows[key][at] = static_cast<char>(good[at] ^ 1);
      CHECK_FALSE(is_whole());
      rows[key] = good;
    }
    rows.erase(key);
    CHECK_FALSE(is_whole());
    rows[key] = good.substr(1);
    CHECK_FALSE(LedgerWriter::open_replica(ledger.log, ledger.clock));
    rows[key] = good;
  }
  const std::string& slice = rows[slice_key(a, "bud")];
  for (const std::string& key :
       {slice_key(ledger.b, "bud"), slice_key(a, "other"), ended_holder_key(a)}) {
    rows[key] = key[0] == slice_prefix ? slice : rows[ended_holder_key(ledger.b)];
    CHECK_FALSE(is_whole());
    if (key == slice_key(a, "other"))  // of no budget
      CHECK_FALSE(LedgerWriter::open_replica(ledger.log, ledger.clock));
    rows.erase(key);
  }
  CHECK(is_whole());
}

TEST_CASE("an entry as JSON names its holder, if it has one", "[ledger][cluster]") {
  OwnedLedger ledger;
  StoredEntry entry;
  entry.body = ledger.reservation(ledger.a, 1);
  std::string json;
  append_entry_json(json, entry);
  CHECK(json.find("\"holder\":\"" + ledger.a.to_string() + "\"") != std::string::npos);
  entry.body = ledger.reservation({}, 1);
  json.clear();
  append_entry_json(json, entry);
  CHECK(json.find("holder") == std::string::npos);
}

}  // namespace outlast::storage::ledger_holders_test
