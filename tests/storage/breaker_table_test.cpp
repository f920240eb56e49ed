// What the ledger keeps of spend breakers, over the whole way: writer, rows, recovery, verification.
#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "storage/breaker_table.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"

namespace outlast::storage::breaker_table_test {
namespace {

BreakerTripped trip_of(const std::string& id, const std::string& why = "it spent too much") {
  return {id, "rule", "user:acme/search/ann", "", SpendAction::hold, why};
}

struct Bench {
  Bench() { open(); }
  void open() {
    writer.reset();
    auto opened = LedgerWriter::open(log, clock, UuidGenerator(clock, ++seed).next(), "test");
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  template <class Operation>
  Applied add(const Operation& operation) {
    const auto applied = writer->add(operation);
    REQUIRE(applied);
    REQUIRE(writer->commit());
    return *applied;
  }
  BreakerRecords records() {
    const auto records = breakers_of(log);
    REQUIRE(records);
    return *records;
  }
  bool verifies() {
    REQUIRE(writer->commit_rows());
    const auto report = verify_ledger(*log.snapshot());
    REQUIRE(report);
    INFO(report->problem);
    CHECK(report->ok);
    return report->ok;
  }

  MemoryLog log;
  ManualClock clock;
  std::uint64_t seed = 0;
  std::unique_ptr<LedgerWriter> writer;
};

}  // namespace

TEST_CASE("a tripped breaker is open until it is reset, over restarts", "[ledger][spend_breaker]") {
  Bench bench;
  CHECK(bench.add(trip_of("brk_a")).outcome == Outcome::applied);
  CHECK(bench.add(trip_of("brk_b")).outcome == Outcome::applied);
  bench.open();
  REQUIRE(bench.records().open.size() == 2);
  CHECK(bench.records().open[0].trip == trip_of("brk_a"));
  CHECK(bench.records().open[0].tripped_ms == bench.clock.wall_ms());
  CHECK(bench.add(BreakerReset{"brk_a", "ann", "looked at it", {7}}).outcome == Outcome::applied);
  const Applied again = bench.add(BreakerReset{"brk_a", "ann", "looked at it", {7}});
  CHECK(again.outcome == Outcome::refused);
  CHECK(again.error == LedgerError::unknown_breaker);
  bench.open();
  CHECK(bench.records().open.size() == 1);
  CHECK(bench.records().allowances.at("brk_a") == PicoUsd{7});
  CHECK(bench.add(trip_of("brk_a", "again")).outcome == Outcome::applied);
  CHECK(bench.records().allowances.empty());
  CHECK(bench.records().open[0].trip.why == "again");
  CHECK(bench.verifies());
}

TEST_CASE("rules made by API are kept, replaced and removed", "[ledger][spend_breaker]") {
  Bench bench;
  CHECK(bench.add(BreakerRuleChange{"night", "{\"a\":1}", "ann", ""}).outcome == Outcome::applied);
  CHECK(bench.add(BreakerRuleChange{"night", "{\"a\":1}", "bob", ""}).outcome == Outcome::duplicate);
  CHECK(bench.add(BreakerRuleChange{"night", "{\"a\":2}", "bob", ""}).outcome == Outcome::applied);
  bench.open();
  CHECK(bench.records().definitions.at("night") == "{\"a\":2}");
  CHECK(bench.add(BreakerRuleChange{"other", "", "bob", ""}).error == LedgerError::unknown_breaker);
  CHECK(bench.add(BreakerRuleChange{"night", "", "bob", "not needed"}).outcome == Outcome::applied);
  CHECK(bench.records().definitions.empty());
  CHECK(bench.verifies());
}

TEST_CASE("breaker entries outside their limits are refused", "[ledger][spend_breaker]") {
  Bench bench;
  REQUIRE(bench.add(trip_of("brk_a")).outcome == Outcome::applied);
  CHECK(bench.add(trip_of("")).error == LedgerError::invalid);
  CHECK(bench.add(trip_of("brk_b", std::string(1'025, 'x'))).error == LedgerError::invalid);
  CHECK(bench.add(BreakerReset{"brk_a", "ann", "", {}}).error == LedgerError::invalid);
  CHECK(bench.add(BreakerReset{"brk_a", "ann", "why", {-1}}).error == LedgerError::invalid);
  CHECK(bench.add(BreakerRuleChange{"", "{}", "ann", ""}).error == LedgerError::invalid);
  CHECK(bench.add(BreakerRuleChange{"n", std::string(16'385, 'x'), "ann", ""}).error == LedgerError::invalid);
  for (std::size_t i = 0; i < breaker_rules_max; ++i) {
    REQUIRE(bench.add(BreakerRuleChange{std::to_string(i), "{}", "ann", ""}).outcome == Outcome::applied);
  }
  CHECK(bench.add(BreakerRuleChange{"one more", "{}", "ann", ""}).error == LedgerError::overloaded);
  CHECK(bench.verifies());
}

TEST_CASE("by seeds: rows say the same as the entries, at every restart", "[ledger][spend_breaker]") {
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    Random random(seed);
    Bench bench;
    std::map<std::string, std::string> open;
    std::map<std::string, PicoUsd> allowances;
    for (int i = 0; i < 300; ++i) {
      const std::string id = "brk_" + std::to_string(random.below(6));
      if (random.below(2) == 0) {
        const std::string why = "reason " + std::to_string(i);
        REQUIRE(bench.add(trip_of(id, why)).outcome == Outcome::applied);
        open[id] = why;
        allowances.erase(id);
      } else {
        const PicoUsd allowance{static_cast<__int128>(random.below(3))};
        const bool known = open.erase(id) > 0;
        REQUIRE((bench.add(BreakerReset{id, "ann", "why", allowance}).outcome == Outcome::applied) == known);
        if (known && allowance.value > 0) allowances[id] = allowance;
      }
      if (random.below(20) == 0) bench.open();
      const BreakerRecords records = bench.records();
      REQUIRE(records.allowances == allowances);
      REQUIRE(records.open.size() == open.size());
      for (const BreakerRecord& record : records.open) REQUIRE(open.at(record.trip.id) == record.trip.why);
    }
    REQUIRE(bench.verifies());
  }
}

}  // namespace outlast::storage::breaker_table_test
