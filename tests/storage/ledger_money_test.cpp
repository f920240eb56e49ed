// Budgets, slices, commitments and idempotency keys: the state machine and the writer over a
// MemoryLog against a naive model by seeds, with a crash at every commit point.
#include <set>

#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "storage/memory_log.hpp"
#include "tests/storage/ledger_fixture.hpp"
#include "tests/storage/money_model.hpp"

namespace outlast::storage {
namespace {

constexpr std::int64_t day_ms = 24 * hour_ms;

class MoneySimulation {
 public:
  explicit MoneySimulation(std::uint64_t seed) : random_(seed), ids_(clock_, seed) { start(); }

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
    compare(*money, committed_);
    const Result<VerifyReport> report = verify_ledger(*left);
    REQUIRE(report);
    INFO(report->problem);
    REQUIRE(report->ok);
  }
  void move_clock() {
    switch (random_.below(12)) {
      case 0: return clock_.set_wall_ms(clock_.wall_ms() + day_ms);
      case 1: return clock_.set_wall_ms(clock_.wall_ms() - day_ms);
      default: clock_.advance_ms(static_cast<std::int64_t>(random_.below(9'000'000)));
    }
  }

  template <class T>
  Applied run(const T& operation) {
    const std::int64_t time_ms = std::max(writer_->time_ms(), clock_.wall_ms());
    model_.roll(writer_->pending_entries() > 0 ? writer_->time_ms() : time_ms);
    const Applied expected = model_.apply(operation, time_ms);
    const Result<Applied> applied = writer_->add(operation);
    REQUIRE(applied);
    INFO("outcome " << static_cast<int>(applied->outcome) << " error "
                    << static_cast<int>(applied->error) << " expected "
                    << static_cast<int>(expected.error));
    REQUIRE(*applied == expected);
    if (expected.outcome == Outcome::refused) errors_seen.insert(static_cast<int>(expected.error));
    return expected;
  }

  std::string one_of(std::initializer_list<const char*> names) {
    return names.begin()[random_.below(names.size())];
  }
  Purchase purchase() { return {one_of({"alpha", "beta"}), one_of({"m1", "m2"})}; }
  RequestId known_id() {
    if (known_.empty()) return ids_.next();
    return known_[known_.size() - 1 -
                  random_.below(std::min<std::size_t>(known_.size(),
                                                      random_.below(2) == 0 ? 6 : 40))];
  }
  PicoUsd amount(std::uint64_t most) { return {static_cast<__int128>(random_.below(most))}; }

  void operate() {
    switch (random_.below(20)) {
      case 0: return budget();
      case 1: return slice();
      case 2: return commitment();
      case 3: return extend();
      case 4:
      case 5: {
        const AttemptLine line = attempt(AttemptStatus::cut);
        run(line);
        return;
      }
      case 6:
        run(VoidReservation{known_id(), "refused"});
        return;
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
        run(Settlement{attempt(AttemptStatus::ok)});
        return;
      default: return reserve();
    }
  }
  void reserve() {
    const RequestId id = random_.below(12) == 0 ? known_id() : ids_.next();
    Reservation reservation = sample_reservation(id, one_of({"ann", "ben"}));
    reservation.amount = amount(1'200);
    reservation.price_known = random_.below(8) != 0;
    if (!reservation.price_known) reservation.amount = {};
    reservation.input_tokens_max = random_.below(300);
    reservation.output_tokens_max = random_.below(300);
    if (random_.below(3) == 0) reservation.tags.push_back(one_of({"nightly", "batch"}));
    for (std::uint64_t i = random_.below(3) + 1; i > 0; --i)
      reservation.candidates.push_back(purchase());
    reservation.from_slices = random_.below(2) == 0;
    if (random_.below(6) == 0) {
      reservation.idempotency.emplace();
      reservation.idempotency->key.fill(static_cast<std::uint8_t>(random_.below(12)));
      reservation.idempotency->parameters.fill(static_cast<std::uint8_t>(random_.below(2)));
    }
    if (known_.empty() || id > known_.back()) known_.push_back(id);
    const Applied applied = run(reservation);
    if (applied.outcome != Outcome::applied) return;
    for (const auto& hold : model_.requests.at(id).holds) from_slices += hold.from_slice > 0;
  }
  void extend() {
    run(ReservationExtension{known_id(), static_cast<std::uint16_t>(1 + random_.below(3)),
                             amount(400), random_.below(100), random_.below(2) == 0});
  }
  AttemptLine attempt(AttemptStatus status) {
    AttemptLine line = sample_attempt(known_id(), static_cast<std::uint16_t>(1 + random_.below(3)),
                                      status, static_cast<std::int64_t>(random_.below(900)));
    const Purchase bought = purchase();
    line.provider = bought.provider;
    line.model = bought.model;
    line.usage.input_uncached = random_.below(300);
    line.usage.output_text = random_.below(300);
    return line;
  }
  void budget() {
    const std::string id = "bud_" + std::to_string(random_.below(7));
    if (random_.below(6) == 0) {
      run(proto::BudgetRemoved{id, "ann"});
      return;
    }
    // Mostly one scope for an id, since a change of it is refused.
    static constexpr const char* scopes[] = {"organisation:acme",
                                             "team:acme/search",
                                             "user:acme/search/ann",
                                             "key:key_ben",
                                             "tag:nightly",
                                             "model:m1",
                                             "provider:beta"};
    const std::size_t scope =
        random_.below(12) == 0 ? random_.below(7) : static_cast<std::size_t>(id.back() - '0');
    Budget budget{id, "", *Scope::parse(scopes[scope]), {}, {}, "UTC", false};
    budget.amount = {static_cast<__int128>(2'000 + random_.below(60'000))};
    budget.period = static_cast<BudgetPeriod>(random_.below(4));
    if (random_.below(2) == 0) budget.time_zone = "Europe/Berlin";
    budget.soft = random_.below(4) == 0;
    run(proto::BudgetSet{budget, "ann", 0, 0});
  }
  void slice() {
    const std::string id = "bud_" + std::to_string(random_.below(7));
    if (random_.below(4) == 0) run(proto::SliceReturned{id, amount(2'000)});
    else run(proto::SliceGranted{id, amount(4'000)});
  }
  void commitment() {
    const std::string id = "com_" + std::to_string(random_.below(12));
    if (random_.below(5) == 0) {
      run(proto::CommitmentEnded{id, "ann"});
      return;
    }
    const bool tokens = random_.below(2) == 0;
    Commitment commitment{id,
                          one_of({"alpha", "beta"}),
                          {},
                          tokens ? CommitmentUnit::tokens : CommitmentUnit::money,
                          static_cast<__int128>(1 + random_.below(20'000)),
                          amount(30'000),
                          0,
                          0,
                          random_.below(3) == 0};
    if (random_.below(2) == 0) commitment.models.push_back(one_of({"m1", "m2"}));
    commitment.from_ms = 1'750'000'000'000 + static_cast<std::int64_t>(random_.below(4)) * day_ms;
    commitment.until_ms =
        commitment.from_ms + day_ms * static_cast<std::int64_t>(1 + random_.below(9));
    run(proto::CommitmentAdded{commitment, "ann"});
  }

  static void compare(const MoneyStatus& money, const MoneyModel& model) {
    REQUIRE(money.budgets.size() == model.budgets.size());
    for (const BudgetStatus& status : money.budgets) {
      const MoneyModel::ModelBudget& one = model.budgets.at(status.budget.id);
      INFO(status.budget.id << " used " << status.used.to_string() << " expected " << PicoUsd{one.used}.to_string() << (status.budget.soft ? " soft" : ""));
      REQUIRE((status.budget == one.budget));
      REQUIRE((status.used.value == one.used));
      REQUIRE((status.held.value == one.held));
      REQUIRE((status.sliced.value == one.sliced));
      REQUIRE(status.period_start_ms == one.period.start_ms);
      REQUIRE(status.period_end_ms == one.period.end_ms);
    }
    REQUIRE(money.commitments.size() == model.commitments.size());
    for (const CommitmentStatus& status : money.commitments) {
      INFO(status.commitment.id);
      const MoneyModel::ModelCommitment& one = model.commitments.at(status.commitment.id);
      REQUIRE((status.commitment == one.commitment));
      REQUIRE((status.used == one.used));
      REQUIRE((status.held == one.held));
      REQUIRE((status.amortised.value == one.amortised));
      REQUIRE((status.list_cost.value == one.list_cost));
      REQUIRE(status.ended == one.ended);
    }
  }
  void require_same_money() { compare(money_of(writer_->state()), model_); }
  void require_same_rows() {
    const Result<MoneyStatus> money = money_of(log_);
    REQUIRE(money);
    compare(*money, model_);
  }

  ManualClock clock_;
  Random random_;
  UuidGenerator ids_;
  MemoryLog log_;
  MoneyModel model_;
  MoneyModel committed_;
  std::unique_ptr<LedgerWriter> writer_;
  std::vector<RequestId> known_;
};

}  // namespace

TEST_CASE("budgets, slices and commitments are what a naive model says, through every crash",
          "[ledger][money]") {
  std::set<int> errors;
  int rolls = 0;
  std::size_t from_slices = 0;
  __int128 drawn = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    INFO("seed " << seed);
    MoneySimulation simulation(seed);
    for (int i = 0; i < 500; ++i) simulation.step();
    simulation.finish();
    errors.merge(simulation.errors_seen);
    rolls += simulation.rolls();
    from_slices += simulation.from_slices;
    drawn += simulation.drawn();
  }
  // The simulation reaches what it is meant to reach: every refusal but those of old ids and keys.
  CHECK(errors == std::set<int>{6, 7, 8, 12, 13, 14, 15, 16, 17, 18});
  CHECK(rolls > 200);
  CHECK(from_slices > 200);
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

}  // namespace outlast::storage
