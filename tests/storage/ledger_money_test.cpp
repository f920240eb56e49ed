// Budgets, slices, holders, commitments, allotments and idempotency keys: the state machine and the writer over a
// MemoryLog against a naive model by seeds, with a crash at every commit point.
#include <set>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/money_compare.hpp"
#include "tests/storage/money_operations.hpp"

namespace outlast::storage::ledger_money_test {
namespace {

class MoneySimulation {
 public:
  explicit MoneySimulation(std::uint64_t seed)
      : random_(seed), ids_(clock_, seed), operations_(random_, ids_, true, model_) {
    start();
  }

  void step() {
    if (random_.below(8) == 0) {
      commit();  // a batch has one time
      move_clock();
    }
    switch (random_.below(60)) {
      case 0: return restart();
      case 1:
        return failed_commit(random_.below(2) == 0 ? MemoryLog::Fate::lost
                                                   : MemoryLog::Fate::done_but_failed);
      case 2:
      case 3: return commit();
      case 4: return crash_here();
      case 5: end_holder(); break;
      default: operate();
    }
    require_same_money();
  }
  void finish() {
    REQUIRE(writer_->finish());
    require_same_rows();
    const Result<VerifyReport> report = verify_ledger(log_);
    REQUIRE(report);
    INFO(report->problem);
    REQUIRE(report->ok);
    CHECK((report->charged.value == model_.tenants_used));
    const Result<std::vector<AccountBalance>> accounts = accounts_of(log_);
    REQUIRE(accounts);
    __int128 sum = 0;
    for (const AccountBalance& account : *accounts) sum += account.balance.value;
    CHECK((sum == 0));
    for (const auto& [provider, owed] : model_.payable) {
      const auto at = std::find_if(accounts->begin(), accounts->end(), [&](const auto& account) {
        return account.name == "payable:" + provider;
      });
      if (owed != 0) REQUIRE(at != accounts->end());
      if (at != accounts->end()) CHECK((at->balance.value == -owed));
    }
  }
  std::set<int> errors_seen;
  int rolls() const { return model_.rolls; }
  __int128 drawn() const {
    __int128 sum = 0;
    for (const auto& [id, one] : model_.commitments) sum += one.used;
    return sum;
  }
  std::size_t from_slices = 0;
  std::size_t from_held_slices = 0;
  std::size_t holders_ended = 0;
  std::size_t allotted = 0;
  std::size_t returned = 0;

 private:
  void start() {
    Result<std::unique_ptr<LedgerWriter>> writer =
        LedgerWriter::open(log_, clock_, ids_.next(), "test");
    INFO((writer ? "" : writer.error().message));
    REQUIRE(writer);
    writer_ = std::move(*writer);
    model_.restart(writer_->time_ms());
    committed_ = model_;
    INFO("after a start");
    require_same_money();
  }
  void restart() {
    commit();
    if (random_.below(2) == 0) REQUIRE(writer_->finish());
    writer_.reset();
    start();
  }
  void commit() {
    const std::uint64_t kind = random_.below(8);
    REQUIRE((kind == 0 ? writer_->commit_rows() : kind == 1 ? writer_->finish()
                                                            : writer_->commit()));
    committed_ = model_;
  }
  void failed_commit(MemoryLog::Fate fate) {
    if (writer_->pending_entries() == 0) return;
    log_.set_fate([fate] { return fate; });
    CHECK_FALSE(writer_->commit());
    log_.set_fate(nullptr);
    if (fate == MemoryLog::Fate::lost) model_ = committed_;
    writer_.reset();
    start();
  }
  // What a process that dies now would find, and what a reader sees: the last commit, as a whole.
  void crash_here() {
    const std::unique_ptr<LedgerView> left = log_.snapshot();
    const Result<MoneyStatus> money = money_of(*left);
    INFO((money ? "" : money.error().message));
    REQUIRE(money);
    INFO("after a crash");
    storage::require_same_money(*money, committed_);
    const Result<VerifyReport> report = verify_ledger(*left);
    REQUIRE(report);
    INFO(report->problem);
    REQUIRE(report->ok);
  }
  void move_clock() {
    switch (random_.below(12)) {
      case 0: return clock_.set_wall_ms(clock_.wall_ms() + MoneyOperations::day_ms);
      case 1: return clock_.set_wall_ms(clock_.wall_ms() - MoneyOperations::day_ms);
      default: clock_.advance_ms(static_cast<std::int64_t>(random_.below(9'000'000)));
    }
  }

  void operate() {
    const proto::EntryBody operation = operations_.next();
    const std::int64_t time_ms = std::max(writer_->time_ms(), clock_.wall_ms());
    model_.roll(writer_->pending_entries() > 0 ? writer_->time_ms() : time_ms);
    const Applied expected = apply_to(model_, operation, time_ms);
    const Result<Applied> applied = writer_->add(operation);
    REQUIRE(applied);
    INFO("kind " << operation.index() << " outcome " << static_cast<int>(applied->outcome)
                 << " error " << static_cast<int>(applied->error) << " expected "
                 << static_cast<int>(expected.error));
    REQUIRE(*applied == expected);
    if (const auto* const grant = std::get_if<proto::AllotmentGranted>(&operation);
        grant != nullptr && expected.outcome == Outcome::applied) {
      model_.opened_at(*grant, writer_->next_index() - 1);
      ++allotted;
    }
    returned += std::holds_alternative<proto::AllotmentReturned>(operation) &&
                expected.outcome == Outcome::applied;
    if (expected.outcome == Outcome::refused) errors_seen.insert(static_cast<int>(expected.error));
    const auto* const reservation = std::get_if<Reservation>(&operation);
    if (reservation == nullptr || expected.outcome != Outcome::applied) return;
    for (const auto& hold : model_.requests.at(reservation->request_id).holds) {
      if (hold.from_slice > 0) ++(reservation->holder.is_nil() ? from_slices : from_held_slices);
    }
  }
  // With what it has open; refusing nothing.
  void end_holder() {
    const Incarnation holder = operations_.any_holder();
    const bool spent = random_.below(2) == 0;
    const std::int64_t time_ms = std::max(writer_->time_ms(), clock_.wall_ms());
    model_.roll(writer_->pending_entries() > 0 ? writer_->time_ms() : time_ms);
    const Applied expected = model_.end_holder(holder, spent, time_ms);
    const Result<Applied> ended = writer_->end_holder(holder, spent, "its lease ended");
    REQUIRE(ended);
    REQUIRE(*ended == expected);
    if (expected.outcome == Outcome::applied) ++holders_ended;
    operations_.replace_holder();
  }
  void require_same_money() { storage::require_same_money(writer_->state(), model_); }
  void require_same_rows() {
    const Result<MoneyStatus> money = money_of(log_);
    REQUIRE(money);
    storage::require_same_money(*money, model_);
  }

  ManualClock clock_;
  Random random_;
  UuidGenerator ids_;
  MemoryLog log_;
  MoneyModel model_;
  MoneyModel committed_;
  std::unique_ptr<LedgerWriter> writer_;
  MoneyOperations operations_;
};

}  // namespace

TEST_CASE("budgets, slices, holders, commitments and allotments are what a naive model says, through every crash",
          "[ledger][money]") {
  std::set<int> errors;
  int rolls = 0;
  std::size_t from_slices = 0;
  std::size_t from_held_slices = 0;
  std::size_t holders_ended = 0;
  std::size_t allotted = 0;
  std::size_t returned = 0;
  __int128 drawn = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    INFO("seed " << seed);
    MoneySimulation simulation(seed);
    for (int i = 0; i < 500; ++i) simulation.step();
    simulation.finish();
    errors.merge(simulation.errors_seen);
    rolls += simulation.rolls();
    from_slices += simulation.from_slices;
    from_held_slices += simulation.from_held_slices;
    holders_ended += simulation.holders_ended;
    allotted += simulation.allotted;
    returned += simulation.returned;
    drawn += simulation.drawn();
  }
  // The simulation reaches what it is meant to reach: every refusal but those of old ids and keys.
  CHECK(errors == std::set<int>{6, 7, 8, 12, 13, 14, 15, 16, 17, 18, 22});
  CHECK(rolls > 200);
  CHECK(from_slices > 200);
  CHECK(from_held_slices > 200);
  CHECK(holders_ended > 80);
  INFO(allotted << " allotted, " << returned << " returned");
  CHECK(allotted > 300);
  CHECK(returned > 50);
  CHECK((drawn > 100'000));
}

TEST_CASE("millions of random operations on money", "[.slow][ledger][money]") {
  for (std::uint64_t seed = 1'000; seed < 3'000; ++seed) {
    INFO("seed " << seed);
    MoneySimulation simulation(seed);
    for (int i = 0; i < 1'000; ++i) simulation.step();
    simulation.finish();
  }
}

}  // namespace outlast::storage::ledger_money_test
