#include "storage/money_rows.hpp"
#include "storage/rows.hpp"

#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "storage/log.hpp"

namespace outlast::storage::rows_test {

TEST_CASE("rows read back as they were written", "[ledger]") {
  std::string bytes;
  HeadRow head{
      2, 90, {}, 1'760'000'000'000, 80, 70, *Uuid::parse("019a3f00-1122-7334-8556-778899aabbcc")};
  head.hash[31] = 7;
  encode(bytes, head);
  HeadRow head_read;
  REQUIRE(decode(bytes, head_read));
  CHECK(head_read == head);

  bytes.clear();
  const BalanceRow balance{{-1}, {static_cast<__int128>(1) << 90}, {3}};
  encode(bytes, balance);
  BalanceRow balance_read;
  REQUIRE(decode(bytes, balance_read));
  CHECK(balance_read == balance);

  bytes.clear();
  const DedupRow dedup{5, 9, {{1, 6}, {2, 8}}};
  encode(bytes, dedup);
  DedupRow dedup_read;
  REQUIRE(decode(bytes, dedup_read));
  CHECK(dedup_read == dedup);

  bytes.clear();
  VirtualKey key{"key_a", {"o", "t", "u"}, "", {}, 12, 34};
  encode(bytes, key);
  VirtualKey key_read;
  REQUIRE(decode(bytes, key_read));
  CHECK(key_read == key);

  bytes.clear();
  const RollupKey rollup{488'888, "o", "t", "u", "key_a", "smart", "m", "p", "d", 3};
  encode(bytes, rollup);
  RollupKey rollup_read;
  REQUIRE(decode(bytes, rollup_read));
  CHECK(rollup_read.hour == rollup.hour);
  CHECK(rollup_read.deployment == "d");
  CHECK(rollup_read.status == 3);
  CHECK(bytes > rollup_hour_key(488'888));
  CHECK(bytes < rollup_hour_key(488'889));
}

TEST_CASE("rows of slices, holders and what holders reserved read back", "[ledger][cluster]") {
  Incarnation holder;
  holder.bytes.fill(7);
  std::string bytes;
  const SliceRow slice{holder, "bud_a", {1}, {static_cast<__int128>(1) << 90}, {3}, 9};
  encode(bytes, slice);
  SliceRow slice_read;
  REQUIRE(decode(slice_key(holder, "bud_a"), bytes, slice_read));
  CHECK(slice_read == slice);
  CHECK_FALSE(decode(slice_key(holder, ""), bytes, slice_read));
  CHECK_FALSE(decode(slice_key(holder, "bud_a"), bytes + "x", slice_read));

  bytes.clear();
  const EndedHolderRow ended{holder, 1'760'000'000'000};
  encode(bytes, ended);
  EndedHolderRow ended_read;
  REQUIRE(decode(ended_holder_key(holder), bytes, ended_read));
  CHECK(ended_read == ended);
  CHECK_FALSE(decode("e", bytes, ended_read));
  CHECK_FALSE(decode(ended_holder_key(holder) + "x", bytes, ended_read));

  for (const bool held : {false, true}) {
    OpenRow open;
    open.reservation.tenant = {"o", "t", "u"};
    open.reservation.tags = {"nightly"};
    if (held) open.reservation.holder = holder;
    open.attempts = {{1, 5}};
    open.budgets = {{"bud_a", {3}, {2}}};
    bytes.clear();
    encode(bytes, open);
    OpenRow open_read;
    open_read.reservation.holder.bytes.fill(1);
    REQUIRE(decode(open_key(open.reservation.request_id), bytes, open_read));
    CHECK(open_read.reservation == open.reservation);
    CHECK(open_read.attempts == open.attempts);
    CHECK(open_read.budgets == open.budgets);
  }
}

TEST_CASE("rows of allotments read back, and those of budgets from before there were any", "[ledger][cluster]") {
  for (const bool commitment : {false, true}) {
    const AllotmentRow row{commitment, "bud_a", 0x1280, {static_cast<__int128>(1) << 90, 3, 9}};
    std::string bytes;
    encode(bytes, row);
    AllotmentRow read;
    REQUIRE(decode(allotment_key(row), bytes, read));
    CHECK(read == row);
    CHECK_FALSE(decode(allotment_key(row), bytes + "x", read));
    CHECK_FALSE(decode(allotment_key({commitment, "", 1, {}}), bytes, read));
    CHECK_FALSE(decode("axbud_a", bytes, read));
  }

  BudgetStatus budget;
  budget.budget = {"bud_a", "search", *Scope::parse("model:m1"), {7}};
  budget.used = {3};
  CommitmentStatus commitment;
  commitment.commitment.id = "com_a";
  commitment.commitment.units = 9;
  std::string old;
  encode(old, budget);
  std::string old_commitment;
  encode(old_commitment, commitment);
  // Texts and numbers, as docs/ledger.md has them: a ledger at home writes what older versions read.
  CHECK(old.size() == 2 + 6 + 1 + 2 + 2 + 16 + 1 + 2 + 3 + 1 + 3 * 16 + 2 * 8);
  CHECK(old_commitment.size() == 2 + 2 + 1 + 16 + 16 + 8 + 8 + 1 + 2 * 16 + 2 * 16 + 1);
  for (const bool away : {false, true}) {
    BudgetStatus budget_read;
    budget_read.away = !away;
    REQUIRE(decode(budget_key("bud_a"), away ? old + '\1' : old, budget_read));
    CHECK(budget_read.away == away);
    CHECK(budget_read.used == budget.used);
    CommitmentStatus commitment_read;
    commitment_read.away = !away;
    REQUIRE(decode(commitment_key("com_a"), away ? old_commitment + '\1' : old_commitment, commitment_read));
    CHECK(commitment_read.away == away);
    CHECK((commitment_read.commitment == commitment.commitment));
  }
  budget.away = commitment.away = true;
  std::string now;
  encode(now, budget);
  CHECK(now == old + '\1');
  now.clear();
  encode(now, commitment);
  CHECK(now == old_commitment + '\1');
  for (const std::string& tail : {std::string(1, '\0'), std::string("\2"), std::string("\1x")}) {
    CHECK_FALSE(decode(budget_key("bud_a"), old + tail, budget));
    CHECK_FALSE(decode(commitment_key("com_a"), old_commitment + tail, commitment));
  }
}

TEST_CASE("rows that are cut short or too long are refused", "[ledger]") {
  std::string bytes;
  OpenRow row;
  row.reservation.tenant = {"o", "t", "u"};
  row.reservation.route = "smart";
  row.attempts = {{1, 5}};
  encode(bytes, row);
  const std::string key = open_key(row.reservation.request_id);
  OpenRow read;
  REQUIRE(decode(key, bytes, read));
  CHECK(read.reservation == row.reservation);
  for (std::size_t size = 0; size + 10 < bytes.size(); ++size)
    CHECK_FALSE(decode(key, bytes.substr(0, size), read));
  CHECK_FALSE(decode(key, bytes + "x", read));
  CHECK_FALSE(decode("short", bytes, read));
  HeadRow head;
  CHECK_FALSE(decode(std::string(200, '\0'), head));
}

TEST_CASE("any bytes of a batch give records or an error that names the index", "[ledger]") {
  std::string records;
  for (int i = 0; i < 3; ++i) {
    const std::size_t start = begin_record(records, Digest{});
    records += std::string(16, static_cast<char>('a' + i));
    finish_record(records, start);
  }
  std::vector<std::string> frames;
  REQUIRE(parse_batch({7, records}, [&frames](const LogRecord& record) {
    CHECK(record.index == 7 + frames.size());
    frames.emplace_back(record.frame);
    return true;
  }));
  CHECK(frames ==
        std::vector<std::string>{std::string(16, 'a'), std::string(16, 'b'), std::string(16, 'c')});
  const Result<void> cut = parse_batch({7, std::string_view(records).substr(0, records.size() - 1)},
                                       [](const LogRecord&) { return true; });
  REQUIRE_FALSE(cut);
  CHECK(cut.error().message.find("entry 9") != std::string::npos);
  Random random(3);
  for (int i = 0; i < 2'000; ++i) {
    std::string noise = records;
    noise[random.below(noise.size())] = static_cast<char>(random.next());
    static_cast<void>(parse_batch({0, noise}, [](const LogRecord&) { return true; }).has_value());
  }
}

TEST_CASE("the latest change of a row is the one that is found", "[ledger]") {
  TableChanges changes;
  std::string value;
  CHECK_FALSE(changes.find(Table::meta, "a", value));
  changes.put(Table::meta, "a", "1");
  changes.put(Table::dedup, "a", "other table");
  changes.put(Table::meta, "a", "");
  REQUIRE(changes.find(Table::meta, "a", value));
  CHECK(value.empty());
  changes.erase(Table::meta, "a");
  CHECK_FALSE(changes.find(Table::meta, "a", value));
}

}  // namespace outlast::storage::rows_test
