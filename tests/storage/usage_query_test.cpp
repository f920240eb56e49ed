// Usage reports against sums over the entries themselves, and stores of before there was latency.
#include <algorithm>
#include <map>

#include "tests/storage/usage_fixture.hpp"

namespace outlast::storage::usage_query_test {
namespace {

// Leaves the tables as a version without latency and day rows would have written them.
void make_old(MemoryLog& log) {
  log.rows(Table::usage).clear();
  for (auto& [key, value] : log.rows(Table::rollup)) value.resize(rollup_bytes_without_latency);
}

}  // namespace

TEST_CASE("any report is the sum of the entries that it is about", "[ledger][usage]") {
  for (const std::uint64_t seed : {1, 2, 3}) {
    Ledger ledger(seed);
    const std::int64_t start_ms = ledger.clock.wall_ms();
    for (int round = 0; round < 3; ++round) {
      ledger.run(700);
      for (int i = 0; i < 60; ++i) {
        if (i == 50) ledger.require_whole();  // until then, rows lag behind the log
        require_same(ledger.log, random_query(ledger.random, start_ms, ledger.clock.wall_ms()));
      }
      if (round == 1) ledger.start();  // with reservations open, their labels in rows or not yet
    }
  }
}

TEST_CASE("all hours that are over are folded, and reports say the same before and after",
          "[ledger][usage]") {
  Ledger ledger(7);
  ledger.run(900);
  REQUIRE(ledger.writer->commit_rows());
  UsageQuery query;
  query.by = {UsageDimension::user, UsageDimension::status};
  query.every = UsageEvery::month;
  const auto before = usage_of(ledger.log, query);
  while (ledger.fold(50) == 50) {
  }
  CHECK(ledger.fold(50) == 0);
  const auto folded = load_folded(ledger.log);
  REQUIRE(folded);
  CHECK(folded->hour == ledger.writer->time_ms() / hour_ms);
  const auto after = usage_of(ledger.log, query);
  REQUIRE(before->rows.size() == after->rows.size());
  for (std::size_t i = 0; i < before->rows.size(); ++i)
    CHECK(before->rows[i].totals == after->rows[i].totals);
  CHECK(before->total == after->total);
  ledger.require_whole();
}

TEST_CASE("a store folds by itself as time goes on", "[ledger][usage]") {
  Ledger ledger(8);
  for (int i = 0; i < 400; ++i) {
    ledger.run(5);
    REQUIRE(ledger.writer->commit_rows());
    REQUIRE(ledger.writer->fold());
  }
  const auto folded = load_folded(ledger.log);
  REQUIRE(folded);
  CHECK(folded->hour == ledger.writer->time_ms() / hour_ms);
  ledger.require_whole();
}

TEST_CASE("a store of before latency was kept opens, goes on, and verifies", "[ledger][usage]") {
  Ledger ledger(11);
  ledger.labelled = false;  // those versions knew none
  const std::int64_t start_ms = ledger.clock.wall_ms();
  ledger.run(600);
  const bool clean = GENERATE(true, false);
  REQUIRE((clean ? ledger.writer->finish() : ledger.writer->commit_rows()));
  ledger.writer.reset();
  make_old(ledger.log);
  ledger.verify();

  const auto without_latency = [](Naive::Rows rows) {
    for (auto& [group, row] : rows) {
      row.duration = {};
      row.first_event = {};
    }
    return rows;
  };
  ledger.labelled = true;
  ledger.start();
  ledger.run(900);
  ledger.require_whole();
  for (int i = 0; i < 60; ++i) {
    const UsageQuery query = random_query(ledger.random, start_ms, ledger.clock.wall_ms());
    const Result<UsageReport> report = usage_of(ledger.log, query);
    REQUIRE(report);
    Naive::Rows rows;
    for (const UsageRow& row : report->rows) rows[{row.start_ms, row.group}] = row.totals;
    REQUIRE(without_latency(rows) == without_latency(naive_usage(ledger.log, query)));
  }
  // From the day after the upgrade on, latency is whole again.
  UsageQuery since;
  since.since_ms = ledger.clock.wall_ms() / day_ms * day_ms;
  require_same(ledger.log, since);
  // And what was there before is folded like all else.
  while (ledger.fold(100) > 0) {
  }
  ledger.require_whole();
  const auto whole = usage_of(ledger.log, {});
  REQUIRE(whole);
  CHECK(whole->total.cost == naive_usage(ledger.log, {}).begin()->second.cost);
}

TEST_CASE("a roll-up that does not follow from the log is found, of whatever kind",
          "[ledger][usage]") {
  Ledger ledger(5);
  ledger.run(400);
  while (ledger.fold(100) > 0) {
  }
  REQUIRE(ledger.writer->finish());
  ledger.require_whole();
  const std::string kind = GENERATE("md", "mm", "th", "td", "tm", "sh", "sd", "sm");
  auto& rows = ledger.log.rows(Table::usage);
  const auto at = rows.lower_bound(kind);
  REQUIRE((at != rows.end() && at->first.starts_with(kind)));
  SECTION("it counts a request more") { ++at->second[0]; }
  SECTION("it counts an attempt as slower") { ++at->second[rollup_bytes_without_latency]; }
  SECTION("it is gone") { rows.erase(at); }
  SECTION("it is there twice") {
    const std::string value = at->second;
    rows[at->first + "x"] = value;
  }
  CHECK(verify_ledger(ledger.log)->problem.find("roll-up") != std::string::npos);
}

TEST_CASE("the largest rows of each bucket come first and the total counts the others too",
          "[ledger][usage]") {
  Ledger ledger(9);
  ledger.run(1'200);
  UsageQuery query;
  query.by = {UsageDimension::user, UsageDimension::deployment};
  query.every = UsageEvery::day;
  const auto all = usage_of(ledger.log, query);
  REQUIRE(all);
  query.top = 2;
  query.sort = UsageSort::failures;
  const auto top = usage_of(ledger.log, query);
  REQUIRE(top);
  CHECK(top->total == all->total);
  CHECK(top->rows.size() + top->rows_left_out == all->rows.size());
  std::map<std::int64_t, std::vector<std::uint64_t>> failures;
  for (const UsageRow& row : all->rows)
    failures[row.start_ms].push_back(row.totals.failed_attempts);
  for (auto& [start_ms, counts] : failures) {
    std::sort(counts.rbegin(), counts.rend());
    counts.resize(std::min<std::size_t>(counts.size(), 2));
  }
  std::map<std::int64_t, std::vector<std::uint64_t>> found;
  for (const UsageRow& row : top->rows) found[row.start_ms].push_back(row.totals.failed_attempts);
  CHECK(found == failures);
  CHECK(all->rows.size() > top->rows.size());
}

TEST_CASE("a tag report says that its rows overlap", "[ledger][usage]") {
  Ledger ledger(1);
  RequestId id = ledger.ids.next();
  Reservation reservation = sample_reservation(id);
  reservation.tags = {"blue", "red", "blue"};
  REQUIRE(ledger.writer->add(reservation));
  REQUIRE(ledger.writer->add(sample_settlement(id)));
  REQUIRE(ledger.writer->commit());
  UsageQuery query;
  query.by = {UsageDimension::tag};
  const auto tags = usage_of(ledger.log, query);
  REQUIRE(tags);
  REQUIRE(tags->rows.size() == 2);
  CHECK(tags->rows[0].group == std::vector<std::string>{"blue"});
  CHECK(tags->rows[0].totals.requests == 1);
  CHECK(tags->total.requests == 2);
  CHECK(tags->overlapping);
  CHECK(usage_of(ledger.log, {})->total.requests == 1);
  UsageQuery red;
  red.where = {{UsageDimension::tag, "red"}};
  CHECK(usage_of(ledger.log, red)->total.requests == 1);
  CHECK_FALSE(usage_of(ledger.log, red)->overlapping);
}

TEST_CASE("what is not kept together is refused", "[ledger][usage]") {
  Ledger ledger(1);
  UsageQuery query;
  query.by = {UsageDimension::tag};
  query.where = {{UsageDimension::session, "run1"}};
  const auto both = usage_of(ledger.log, query);
  REQUIRE_FALSE(both);
  CHECK(is(both.error(), LedgerError::invalid));
  Reservation reservation = sample_reservation(ledger.ids.next());
  reservation.tags.assign(tags_max + 1, "t");
  CHECK(ledger.writer->add(reservation)->error == LedgerError::invalid);
  reservation.tags = {std::string(tag_bytes_max + 1, 'x')};
  CHECK(ledger.writer->add(reservation)->error == LedgerError::invalid);
}

}  // namespace outlast::storage::usage_query_test
