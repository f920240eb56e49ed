// Budgets of which ledgers of several shards spend, one case at a time.
#include "storage/rows.hpp"
#include "tests/storage/owned_ledger.hpp"

namespace outlast::storage::ledger_allotments_test {
namespace {

using proto::AllotmentGranted;
using proto::AllotmentReturned;

constexpr std::uint16_t home = 2;
constexpr std::uint16_t other = 5;
constexpr std::uint64_t opened = 40;  // at home, as the other side hears of it
constexpr std::int64_t day_ms = 24 * hour_ms;

AllotmentGranted grant(std::uint16_t shard, std::int64_t amount, std::uint64_t opened_at = 0) {
  return {"bud", false, shard, amount, opened_at};
}
AllotmentReturned back(std::uint16_t shard, std::int64_t amount, std::uint64_t opened_at) {
  return {"bud", false, shard, amount, opened_at};
}

// As the opening entry of a home had it; the state alone knows.
std::uint64_t opened_of(const Allotments& allotments, std::uint16_t shard) {
  const auto at = allotments.find(shard);
  return at == allotments.end() ? 0 : at->second.opened;
}

std::size_t allotment_rows(OwnedLedger& ledger) {
  std::size_t count = 0;
  for (const auto& [key, value] : ledger.log.rows(Table::meta)) count += key[0] == allotment_prefix;
  return count;
}

}  // namespace

TEST_CASE("a home allots what it has free, and counts without it", "[ledger][allotments]") {
  OwnedLedger ledger;
  const Reservation held = ledger.reservation({}, 1'000, false);
  CHECK(ledger.add(held) == Outcome::applied);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(500), ledger.a}) == Outcome::applied);
  CHECK(ledger.refusal(grant(other, 8'501)) == LedgerError::invalid);
  CHECK(ledger.refusal(grant(other, -1)) == LedgerError::invalid);
  CHECK(ledger.refusal(grant(other, 3, opened)) == LedgerError::invalid);  // nothing was opened then
  CHECK(ledger.add(grant(other, 3'000)) == Outcome::applied);
  const std::uint64_t index = ledger.writer->next_index() - 1;
  CHECK(ledger.account().allotments == Allotments{{other, {3'000, 0, index}}});
  CHECK(ledger.status().part() == pico(7'000));
  CHECK(ledger.status().left() == pico(6'000));
  CHECK(ledger.account().pool() == pico(5'500));
  CHECK(ledger.refusal(grant(other, 1)) == LedgerError::invalid);  // it is open already
  CHECK(ledger.refusal(grant(other, 1, index + 1)) == LedgerError::invalid);
  CHECK(ledger.refusal(grant(other, 0, index)) == LedgerError::invalid);
  CHECK(ledger.add(grant(other, 2'000, index)) == Outcome::applied);
  CHECK(ledger.add(grant(7, 0)) == Outcome::applied);  // opened with nothing
  const std::uint64_t seventh = ledger.writer->next_index() - 1;
  CHECK(ledger.refusal(ledger.reservation({}, 3'501, false)) == LedgerError::budget_exhausted);
  CHECK(ledger.add(grant(7, 3'500, seventh)) == Outcome::applied);
  CHECK(ledger.account().pool().value == 0);
  CHECK(ledger.refusal(back(9, 1, index)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(other, 1, seventh)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(other, 0, index)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(other, -1, index)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(other, 5'001, index)) == LedgerError::invalid);
  CHECK(ledger.add(back(other, 5'000, index)) == Outcome::applied);
  CHECK(ledger.refusal(back(other, 1, index)) == LedgerError::invalid);
  CHECK(ledger.account().allotments.at(other) == Allotment{5'000, 5'000, index});
  CHECK(ledger.account().pool() == pico(5'000));
  CHECK(ledger.refusal(AllotmentGranted{"none", false, other, 1, 0}) == LedgerError::unknown_budget);
  CHECK(ledger.refusal(AllotmentReturned{"none", false, other, 1, 1}) == LedgerError::unknown_budget);
  ledger.require_whole();
}

TEST_CASE("a ledger away from a budget's home spends what it was allotted", "[ledger][allotments]") {
  OwnedLedger ledger(true);
  CHECK(ledger.status().part().value == 0);
  CHECK(ledger.refusal(ledger.reservation({}, 1, false)) == LedgerError::budget_exhausted);
  CHECK(ledger.refusal(grant(home, 2'000, 0)) == LedgerError::invalid);  // who opened it?
  CHECK(ledger.refusal(grant(home, -1, opened)) == LedgerError::invalid);
  CHECK(ledger.add(grant(home, 0, opened)) == Outcome::applied);
  CHECK(ledger.refusal(grant(home, 0, opened)) == LedgerError::invalid);
  CHECK(ledger.add(grant(home, 2'000, opened)) == Outcome::applied);
  CHECK(ledger.refusal(grant(other, 1, opened)) == LedgerError::invalid);  // there is one home
  CHECK(ledger.refusal(grant(other, 1, opened + 1)) == LedgerError::invalid);
  CHECK(ledger.refusal(grant(home, 1, opened - 1)) == LedgerError::invalid);
  CHECK(ledger.status().part() == pico(2'000));
  CHECK(ledger.refusal(proto::SliceGranted{"bud", pico(2'001), ledger.a}) == LedgerError::invalid);
  CHECK(ledger.add(proto::SliceGranted{"bud", pico(300), ledger.a}) == Outcome::applied);
  const Reservation one = ledger.reservation({}, 1'000, false);
  CHECK(ledger.add(one) == Outcome::applied);
  CHECK(ledger.refusal(ledger.reservation({}, 701, false)) == LedgerError::budget_exhausted);
  CHECK(ledger.refusal(back(home, 701, opened)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(home, 1, opened - 1)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(other, 1, opened)) == LedgerError::invalid);
  CHECK(ledger.add(back(home, 700, opened)) == Outcome::applied);
  CHECK(ledger.add(sample_settlement(one.request_id, 400)) == Outcome::applied);
  CHECK(ledger.account().allotments == Allotments{{home, {2'000, 700, opened}}});
  CHECK(ledger.status().part() == pico(1'300));
  CHECK(ledger.status().used == pico(400));
  CHECK(ledger.account().pool() == pico(600));
  ledger.require_whole();
}

TEST_CASE("an amount beyond all limits is not allotted", "[ledger][allotments]") {
  OwnedLedger ledger(true);
  AllotmentGranted most = grant(home, 0, opened);
  most.amount = allotment_amount_max + 1;
  CHECK(ledger.refusal(most) == LedgerError::invalid);
  most.amount = allotment_amount_max;
  CHECK(ledger.add(most) == Outcome::applied);
  // Totals that no number holds.
  Allotments allotments{{home, {static_cast<__int128>((static_cast<unsigned __int128>(1) << 127) - 1), 0, opened}}};
  CHECK(take_grant(allotments, {true, false, true, 0}, grant(home, 1, opened), 1) == LedgerError::invalid);
}

TEST_CASE("whether a ledger is a budget's home never changes", "[ledger][allotments]") {
  const bool away = GENERATE(false, true);
  OwnedLedger ledger(away);
  CHECK(ledger.refusal(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0, !away}) == LedgerError::invalid);
  Budget lower = OwnedLedger::budget();
  lower.amount = pico(9'000);
  CHECK(ledger.refusal(proto::BudgetSet{lower, "ann", 0, 0, !away}) == LedgerError::invalid);
  CHECK(ledger.add(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0, away}) == Outcome::duplicate);
  CHECK(ledger.add(proto::BudgetSet{lower, "ann", 0, 0, away}) == Outcome::applied);
  CHECK(ledger.status().away == away);
  ledger.require_whole();
}

TEST_CASE("a later allotment voids one of an earlier budget, and nothing is added until all fits",
          "[ledger][allotments]") {
  OwnedLedger ledger(true);
  CHECK(ledger.add(grant(home, 1'000, opened)) == Outcome::applied);
  const Reservation one = ledger.reservation({}, 900, false);
  CHECK(ledger.add(one) == Outcome::applied);
  CHECK(ledger.add(grant(home, 500, opened + 7)) == Outcome::applied);
  CHECK(ledger.account().allotments == Allotments{{home, {500, 0, opened + 7}}});
  CHECK(ledger.account().pool() == pico(-400));
  CHECK(ledger.refusal(grant(home, 5, opened)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(home, 1, opened)) == LedgerError::invalid);
  CHECK(ledger.refusal(back(home, 1, opened + 7)) == LedgerError::invalid);
  CHECK(ledger.refusal(ledger.reservation({}, 1, false)) == LedgerError::budget_exhausted);
  ledger.require_whole();
  CHECK(ledger.add(sample_settlement(one.request_id, 100)) == Outcome::applied);
  CHECK(ledger.account().pool() == pico(400));
  CHECK(ledger.add(ledger.reservation({}, 400, false)) == Outcome::applied);
  ledger.require_whole();
}

TEST_CASE("a soft budget allots nothing, and what was allotted stays through it", "[ledger][allotments]") {
  OwnedLedger ledger;
  CHECK(ledger.add(grant(other, 3'000)) == Outcome::applied);
  const std::uint64_t index = opened_of(ledger.account().allotments, other);
  Budget soft = OwnedLedger::budget();
  soft.soft = true;
  CHECK(ledger.add(proto::BudgetSet{soft, "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.refusal(grant(other, 1, index)) == LedgerError::invalid);
  CHECK(ledger.refusal(grant(7, 0)) == LedgerError::invalid);
  CHECK(ledger.add(back(other, 1'000, index)) == Outcome::applied);  // it was on its way
  CHECK(ledger.add(ledger.reservation({}, 9'000, false)) == Outcome::applied);
  CHECK(ledger.add(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.account().allotments == Allotments{{other, {3'000, 1'000, index}}});
  CHECK(ledger.account().pool() == pico(-1'000));
  CHECK(ledger.refusal(grant(other, 1, index)) == LedgerError::invalid);
  ledger.require_whole();

  OwnedLedger away(true);
  CHECK(away.add(proto::BudgetSet{soft, "ann", 0, 0, true}) == Outcome::applied);
  CHECK(away.add(grant(home, 3'000, opened)) == Outcome::applied);  // the home gave it before
  CHECK(away.add(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0, true}) == Outcome::applied);
  CHECK(away.account().pool() == pico(3'000));
  away.require_whole();
}

TEST_CASE("a lower amount leaves allotments, and the home has less than nothing until they come back",
          "[ledger][allotments]") {
  OwnedLedger ledger;
  CHECK(ledger.add(grant(other, 6'000)) == Outcome::applied);
  const std::uint64_t index = opened_of(ledger.account().allotments, other);
  Budget lower = OwnedLedger::budget();
  lower.amount = pico(5'000);
  CHECK(ledger.add(proto::BudgetSet{lower, "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.account().pool() == pico(-1'000));
  CHECK(ledger.refusal(ledger.reservation({}, 1, false)) == LedgerError::budget_exhausted);
  ledger.require_whole();
  CHECK(ledger.add(back(other, 1'500, index)) == Outcome::applied);
  CHECK(ledger.account().pool() == pico(500));
  ledger.require_whole();
}

TEST_CASE("a new period empties what is used, and leaves what is allotted", "[ledger][allotments]") {
  const bool away = GENERATE(false, true);
  OwnedLedger ledger(away);
  Budget daily{"day", "", *Scope::parse("organisation:acme"), pico(10'000), BudgetPeriod::day, "UTC"};
  CHECK(ledger.add(proto::BudgetSet{daily, "ann", 0, 0, away}) == Outcome::applied);
  CHECK(ledger.add(AllotmentGranted{"day", false, home, 4'000, away ? opened : 0}) == Outcome::applied);
  if (away) CHECK(ledger.add(grant(home, 4'000, opened)) == Outcome::applied);
  const Reservation one = ledger.reservation({}, 300, false);
  CHECK(ledger.add(one) == Outcome::applied);
  CHECK(ledger.add(sample_settlement(one.request_id, 300)) == Outcome::applied);
  REQUIRE(ledger.writer->commit());
  const BudgetAccount& account = *ledger.writer->state().budgets().find("day");
  CHECK(account.status.used == pico(300));
  const Allotments before = account.allotments;
  ledger.clock.advance_ms(day_ms);
  CHECK(ledger.add(ledger.reservation({}, 1, false)) == Outcome::applied);
  CHECK(account.status.used.value == 0);
  CHECK(account.allotments == before);
  CHECK(account.status.part() == (away ? pico(4'000) : pico(6'000)));
  ledger.require_whole();
}

TEST_CASE("a removed budget takes its allotments along, in memory and in rows", "[ledger][allotments]") {
  const bool between = GENERATE(false, true);
  OwnedLedger ledger;
  CHECK(ledger.add(grant(other, 3'000)) == Outcome::applied);
  const std::uint64_t index = opened_of(ledger.account().allotments, other);
  CHECK(ledger.add(grant(7, 0)) == Outcome::applied);
  REQUIRE(ledger.writer->finish());
  CHECK(allotment_rows(ledger) == 2);
  CHECK(ledger.add(proto::BudgetRemoved{"bud", "ann"}) == Outcome::applied);
  CHECK(ledger.refusal(back(other, 1, index)) == LedgerError::unknown_budget);
  if (between) {
    REQUIRE(ledger.writer->finish());
    CHECK(allotment_rows(ledger) == 0);
    ledger.lead();
  }
  CHECK(ledger.add(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0}) == Outcome::applied);
  CHECK(ledger.status().part() == pico(10'000));
  CHECK(ledger.refusal(back(other, 1, index)) == LedgerError::invalid);
  CHECK(ledger.add(grant(other, 5)) == Outcome::applied);
  CHECK(opened_of(ledger.account().allotments, other) > index);
  REQUIRE(ledger.writer->finish());
  CHECK(allotment_rows(ledger) == 1);
  ledger.require_whole();
}

}  // namespace outlast::storage::ledger_allotments_test
