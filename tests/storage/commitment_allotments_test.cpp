// Commitments of which ledgers of several shards draw; and how allotments are stored, replicated and shown.
#include "storage/entry_json.hpp"
#include "storage/money_rows.hpp"
#include "tests/storage/owned_ledger.hpp"

namespace outlast::storage::commitment_allotments_test {
namespace {

using proto::AllotmentGranted;
using proto::AllotmentReturned;

constexpr std::uint16_t home = 2;
constexpr std::uint16_t other = 5;
constexpr std::uint64_t opened = 40;  // at home, as the other side hears of it

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

TEST_CASE("the shard that an entry stands in is told apart from the one that it names", "[ledger][allotments]") {
  StoredEntry entry;
  entry.body = grant(other, 17, 9);
  std::string alone;
  append_entry_json(alone, entry);
  CHECK(alone.starts_with(R"({"index":0,)"));
  std::string of_shard;
  append_entry_json(of_shard, entry, "control");
  CHECK(of_shard == R"({"ledger_shard":"control",)" + alone.substr(1));
  CHECK(of_shard.find(R"("shard":5,)") != std::string::npos);
}

}  // namespace outlast::storage::commitment_allotments_test
