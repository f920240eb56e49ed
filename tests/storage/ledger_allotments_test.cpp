// Allotments: budgets and commitments of which ledgers of several shards spend, one case at a time.
#include "core/mul_div.hpp"
#include "storage/entry_json.hpp"
#include "storage/money_rows.hpp"
#include "tests/storage/owned_ledger.hpp"

namespace outlast::storage {
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

Commitment tokens_bought() {
  Commitment bought{"com", "alpha", {}, CommitmentUnit::tokens, 1'000, pico(700), 0, 0, false};
  bought.until_ms = 4'000'000'000'000;
  return bought;
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

// A ledger that is home to a commitment too, or not.
struct Committed : OwnedLedger {
  explicit Committed(bool away = false) : OwnedLedger(away) {
    CHECK(add(proto::CommitmentAdded{tokens_bought(), "ann", away}) == Outcome::applied);
  }
  const CommitmentAccount& commitment() const { return *writer->state().commitments().find("com"); }
  // 100 tokens at most, of which `tokens` are used.
  FundingChain spend(std::uint64_t tokens) {
    Reservation asked = reservation({}, 10, false);
    asked.input_tokens_max = 60;
    asked.output_tokens_max = 40;
    asked.candidates = {{"alpha", "claude-fable-5"}};
    CHECK(add(asked) == Outcome::applied);
    Settlement end = sample_settlement(asked.request_id, 10);
    end.attempt.usage = {};
    end.attempt.usage.output_text = tokens;
    const CommitmentStatus before = commitment().status;
    CHECK(add(end) == Outcome::applied);
    const CommitmentStatus& after = commitment().status;
    return {pico(10), pico(10) - (after.list_cost - before.list_cost),
            after.amortised - before.amortised, {}};
  }
};

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

TEST_CASE("allotments are the same after a restart, from rows or from entries", "[ledger][allotments]") {
  Committed ledger;
  Committed away(true);
  for (Committed* one : {&ledger, &away}) {
    const bool is_away = one == &away;
    const std::uint16_t shard = is_away ? home : other;
    const std::uint64_t at = is_away ? opened : 0;
    CHECK(one->add(grant(shard, 3'000, at)) == Outcome::applied);
    CHECK(one->add(AllotmentGranted{"com", true, shard, 400, at}) == Outcome::applied);
  }
  Committed* const one = GENERATE(0, 1) == 0 ? &ledger : &away;
  const std::uint16_t shard = one == &away ? home : other;
  const int stored = GENERATE(0, 1, 2);
  if (stored == 1) REQUIRE(one->writer->finish());
  CHECK(one->add(back(shard, 500, opened_of(one->account().allotments, shard))) == Outcome::applied);
  CHECK(one->add(AllotmentReturned{"com", true, shard, 50,
                                   opened_of(one->commitment().allotments, shard)}) == Outcome::applied);
  REQUIRE((stored == 2 ? one->writer->finish() : one->writer->commit()));
  const Allotments of_budget = one->account().allotments;
  const Allotments of_commitment = one->commitment().allotments;
  const PicoUsd pool = one->account().pool();
  const __int128 unheld = one->commitment().unheld();
  const Digest digest = one->writer->state_digest();
  one->reopen();
  CHECK(one->writer->state_digest() == digest);
  CHECK(one->account().allotments == of_budget);
  CHECK(one->commitment().allotments == of_commitment);
  CHECK(of_budget.at(shard).out() == 2'500);
  CHECK(of_commitment.at(shard).out() == 350);
  CHECK(one->account().pool() == pool);
  CHECK((one->commitment().unheld() == unheld));
  CHECK(one->status().away == (one == &away));
  CHECK(one->commitment().status.away == (one == &away));
  one->lead();
  one->require_whole();
}

TEST_CASE("a replica has the owner's allotments", "[ledger][allotments]") {
  Committed ledger;
  SharedNodeLog log(ledger.shared);
  const Result<std::unique_ptr<LedgerWriter>> replica = LedgerWriter::open_replica(log, ledger.clock);
  REQUIRE(replica);
  CHECK(ledger.add(grant(other, 3'000)) == Outcome::applied);
  CHECK(ledger.add(AllotmentGranted{"com", true, 7, 10, 0}) == Outcome::applied);
  REQUIRE(ledger.writer->commit());
  for (const auto& batch : ledger.shared.from(0)) REQUIRE((*replica)->follow(batch.first_index, batch.records));
  const Digest before = ledger.writer->state_digest();
  CHECK((*replica)->state_digest() == before);
  CHECK(ledger.add(AllotmentReturned{"com", true, 7, 1, opened_of(ledger.commitment().allotments, 7)}) ==
        Outcome::applied);
  CHECK(ledger.writer->state_digest() != before);
}

TEST_CASE("a commitment's units are drawn by the ledgers that they were allotted to", "[ledger][allotments]") {
  Committed at_home;
  Committed away(true);
  CHECK(away.add(AllotmentGranted{"bud", false, home, 5'000, opened}) == Outcome::applied);
  CHECK(at_home.refusal(AllotmentGranted{"com", true, other, 1'001, 0}) == LedgerError::invalid);
  CHECK(at_home.refusal(AllotmentGranted{"com", true, other, -1, 0}) == LedgerError::invalid);
  CHECK(at_home.refusal(AllotmentGranted{"none", true, other, 1, 0}) == LedgerError::unknown_commitment);
  CHECK(at_home.refusal(AllotmentReturned{"none", true, other, 1, 1}) == LedgerError::unknown_commitment);
  CHECK(at_home.add(AllotmentGranted{"com", true, other, 130, 0}) == Outcome::applied);
  const std::uint64_t at = opened_of(at_home.commitment().allotments, other);
  CHECK(at_home.commitment().unheld() == 870);

  // Nothing has come yet: all is on demand.
  CHECK(away.spend(100).on_demand == pico(10));
  CHECK(away.add(AllotmentGranted{"com", true, home, 130, at}) == Outcome::applied);
  CHECK(away.spend(100).on_demand.value == 0);
  // 30 are left there: of 100 tokens 70 are on demand.
  CHECK(away.spend(100).on_demand == pico(7));
  CHECK(away.commitment().status.used == 130);
  CHECK(away.refusal(AllotmentReturned{"com", true, home, 1, at}) == LedgerError::invalid);
  CHECK(away.add(AllotmentGranted{"com", true, home, 50, at}) == Outcome::applied);
  CHECK(away.refusal(AllotmentReturned{"com", true, home, 51, at}) == LedgerError::invalid);
  CHECK(away.add(AllotmentReturned{"com", true, home, 50, at}) == Outcome::applied);

  CHECK(at_home.add(AllotmentGranted{"com", true, other, 50, at}) == Outcome::applied);
  CHECK(at_home.add(AllotmentReturned{"com", true, other, 50, at}) == Outcome::applied);
  CHECK(at_home.refusal(AllotmentReturned{"com", true, other, 131, at}) == LedgerError::invalid);
  for (int i = 0; i < 8; ++i) CHECK(at_home.spend(100).on_demand.value == 0);
  CHECK(at_home.spend(100).on_demand == pico(3));
  CHECK(at_home.commitment().status.used == 870);
  CHECK(at_home.refusal(AllotmentGranted{"com", true, other, 1, at}) == LedgerError::invalid);

  // Of the whole price each ledger amortises by what it drew, rounded down.
  CHECK(at_home.commitment().status.amortised == pico(609));
  CHECK(away.commitment().status.amortised == pico(91));
  at_home.require_whole();
  away.require_whole();
}

TEST_CASE("a commitment's allotment is never opened anew", "[ledger][allotments]") {
  Committed away(true);
  CHECK(away.add(AllotmentGranted{"com", true, home, 100, opened}) == Outcome::applied);
  CHECK(away.refusal(AllotmentGranted{"com", true, home, 100, opened + 1}) == LedgerError::invalid);
  CHECK(away.add(proto::CommitmentAdded{tokens_bought(), "ann", true}) == Outcome::duplicate);
  CHECK(away.refusal(proto::CommitmentAdded{tokens_bought(), "ann", false}) == LedgerError::duplicate);
  CHECK(away.commitment().status.away);
  away.require_whole();
}

TEST_CASE("the accounts of each ledger sum to zero, and what was allotted is in both", "[ledger][allotments]") {
  Committed at_home;
  Committed away(true);
  CHECK(at_home.add(grant(other, 3'000)) == Outcome::applied);
  CHECK(away.add(grant(home, 2'000, opened)) == Outcome::applied);  // the rest is on its way
  CHECK(away.add(AllotmentGranted{"com", true, home, 30, opened}) == Outcome::applied);
  CHECK(away.spend(20).on_demand.value == 0);
  std::map<std::string, __int128> all;
  for (Committed* one : {&at_home, &away}) {
    REQUIRE(one->writer->finish());
    const Result<std::vector<AccountBalance>> accounts = accounts_of(one->log);
    REQUIRE(accounts);
    __int128 sum = 0;
    for (const AccountBalance& account : *accounts) {
      sum += account.balance.value;
      all[account.name] += account.balance.value;
    }
    CHECK((sum == 0));
  }
  CHECK((all["budget_limit:bud"] == -10'000));
  CHECK((all["budget_allotted:bud"] == 1'000));
  CHECK((all["budget_available:bud"] == 8'990));
  CHECK((all["purchased:alpha"] == -700));
}

TEST_CASE("a changed row of an allotment is found", "[ledger][allotments]") {
  Committed ledger;
  CHECK(ledger.add(grant(other, 3'000)) == Outcome::applied);
  CHECK(ledger.add(AllotmentGranted{"com", true, other, 10, 0}) == Outcome::applied);
  REQUIRE(ledger.writer->finish());
  ledger.require_whole();
  auto& rows = ledger.log.rows(Table::meta);
  const auto is_whole = [&ledger] {
    const Result<VerifyReport> report = verify_ledger(ledger.log);
    return report && report->ok;
  };
  const AllotmentRow of_none{false, "none", other, {}};
  for (const AllotmentRow& row : {AllotmentRow{false, "bud", other, {}}, AllotmentRow{true, "com", other, {}}}) {
    const std::string key = allotment_key(row);
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
    rows[allotment_key(of_none)] = good;
    CHECK_FALSE(is_whole());
    CHECK_FALSE(LedgerWriter::open_replica(ledger.log, ledger.clock));
    rows.erase(allotment_key(of_none));
  }
  CHECK(is_whole());
}

TEST_CASE("an entry as JSON says what was allotted, where and since when", "[ledger][allotments]") {
  const auto json_of = [](proto::EntryBody body) {
    StoredEntry entry;
    entry.body = std::move(body);
    std::string json;
    append_entry_json(json, entry);
    return json;
  };
  CHECK(json_of(grant(other, 17, 9)).find(
            R"("kind":"allotment_granted")") != std::string::npos);
  CHECK(json_of(grant(other, 17, 9)).find(
            R"("budget":"bud","shard":5,"amount_pico_usd":"17","opened":9)") != std::string::npos);
  CHECK(json_of(AllotmentReturned{"com", true, home, 3, 8}).find(
            R"("kind":"allotment_returned")") != std::string::npos);
  CHECK(json_of(AllotmentReturned{"com", true, home, 3, 8}).find(
            R"("commitment":"com","shard":2,"units":"3","opened":8)") != std::string::npos);
  CHECK(json_of(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0, true}).find(R"("away":true)") !=
        std::string::npos);
  CHECK(json_of(proto::CommitmentAdded{tokens_bought(), "ann", true}).find(R"("away":true)") !=
        std::string::npos);
  CHECK(json_of(proto::BudgetSet{OwnedLedger::budget(), "ann", 0, 0}).find("away") == std::string::npos);
}

}  // namespace outlast::storage
