// A ledger of a cluster's shard whose node owns it, over a log in memory.
#pragma once

#include <memory>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/shared_node_log.hpp"

namespace outlast::storage {

// A ledger whose node owns it, with a budget of 10,000 for everybody.
struct OwnedLedger {
  ManualClock clock;
  UuidGenerator ids{clock, 1};
  SharedBatches shared;
  SharedNodeLog log{shared};
  std::unique_ptr<LedgerWriter> writer;
  Incarnation a = ids.next();
  Incarnation b = ids.next();
  std::uint64_t epoch = 0;

  // `away`: another ledger is the budget's home.
  explicit OwnedLedger(bool away = false) {
    lead();
    CHECK(add(proto::BudgetSet{budget(), "ann", 0, 0, away}) == Outcome::applied);
  }
  static Budget budget() {
    return {"bud", "", *Scope::parse("organisation:acme"), pico(10'000), BudgetPeriod::total, "UTC"};
  }
  void reopen() {
    log.leading = false;
    Result<std::unique_ptr<LedgerWriter>> opened = LedgerWriter::open_replica(log, clock);
    INFO((opened ? "" : opened.error().message));
    REQUIRE(opened);
    writer = std::move(*opened);
  }
  void lead() {
    reopen();
    log.leading = true;
    REQUIRE(writer->lead(++epoch, {ids.next(), "node-a", "outlast test"}));
  }
  template <class T>
  Applied apply(const T& operation) {
    const Result<Applied> applied = writer->add(operation);
    REQUIRE(applied);
    return *applied;
  }
  template <class T>
  Outcome add(const T& operation) {
    return apply(operation).outcome;
  }
  template <class T>
  LedgerError refusal(const T& operation) {
    const Applied applied = apply(operation);
    CHECK(applied.outcome == Outcome::refused);
    return applied.error;
  }
  Reservation reservation(const Incarnation& holder, std::int64_t amount, bool from_slices = true) {
    Reservation one = sample_reservation(ids.next());
    one.amount = pico(amount);
    one.holder = holder;
    one.from_slices = from_slices;
    return one;
  }
  const BudgetAccount& account() const { return *writer->state().budgets().find("bud"); }
  const BudgetStatus& status() const { return account().status; }
  SliceAccount slice(const Incarnation& holder) const {
    const SliceAccount* const found = BudgetState::slice_of(account(), holder);
    return found == nullptr ? SliceAccount{} : *found;
  }
  void require_whole() {
    REQUIRE(writer->commit());
    const Result<VerifyReport> report = verify_ledger(log);
    REQUIRE(report);
    INFO(report->problem);
    CHECK(report->ok);
  }
};

}  // namespace outlast::storage
