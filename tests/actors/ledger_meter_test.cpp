#include "actors/ledger_meter.hpp"

#include <catch2/catch.hpp>

#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>

#include "core/check.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace ledger_meter_test {

using namespace outlast;
using actors::LedgerMeter;
using storage::LedgerError;
namespace asio = boost::asio;

namespace {

// A ledger whose committer is the test: it calls back when it is told to, on any thread.
class FakeLedger final : public storage::LedgerStore {
 public:
  struct Submitter final : storage::LedgerSubmitter {
    explicit Submitter(FakeLedger& fake) : ledger(fake) {}
    Result<std::uint64_t> submit(MeteringOperation, bool) override {
      if (ledger.full) return fail(LedgerError::disk_full, "no room");
      return ++ledger.submitted;
    }
    void hasten() override { ++ledger.hastened; }
    FakeLedger& ledger;
  };

  std::unique_ptr<storage::LedgerSubmitter> make_submitter(
      std::function<void(std::uint64_t)> on_durable,
      std::function<void(std::uint64_t, const storage::Refused&)> on_refused) override {
    durable = std::move(on_durable);
    refused = std::move(on_refused);
    return std::make_unique<Submitter>(*this);
  }
  void add_key(VirtualKey, std::function<void(Result<void>)>) override { unused(); }
  void revoke_key(std::string, std::function<void(Result<void>)>) override { unused(); }
  void record_prices(std::string, std::string, std::function<void(Result<void>)>) override { unused(); }
  [[nodiscard]] std::vector<VirtualKey> keys() const override { return {}; }
  void set_budget(Budget, std::string, std::function<void(Result<void>)>) override { unused(); }
  void remove_budget(std::string, std::string, std::function<void(Result<void>)>) override { unused(); }
  [[nodiscard]] std::vector<BudgetStatus> budgets() const override { return {}; }
  [[nodiscard]] std::shared_ptr<const BudgetBook> budget_book() const override { return nullptr; }
  void add_commitment(Commitment, std::string, std::function<void(Result<void>)>) override { unused(); }
  void end_commitment(std::string, std::string, std::function<void(Result<void>)>) override { unused(); }
  [[nodiscard]] std::vector<CommitmentStatus> commitments() const override { return {}; }
  void record_breaker(BreakerOperation, std::function<void(Result<void>)>) override { unused(); }
  Result<BreakerRecords> breakers() const override { return unused(); }
  void record_member(MemberOperation, std::function<void(Result<void>)>) override { unused(); }
  Result<MemberRecords> members() const override { return unused(); }
  Result<std::vector<storage::AccountBalance>> accounts() const override { return unused(); }
  Result<storage::UsageReport> usage(const storage::UsageQuery&) const override { return unused(); }
  Result<void> read(std::uint64_t, const std::function<bool(const storage::StoredEntry&)>&) const override {
    return unused();
  }
  Result<storage::VerifyReport> verify() const override { return unused(); }
  [[nodiscard]] Result<std::vector<std::unique_ptr<storage::LedgerView>>> views() const override { return std::vector<std::unique_ptr<storage::LedgerView>>{}; }
  [[nodiscard]] Status status() const override { return {}; }

  std::function<void(std::uint64_t)> durable;
  std::function<void(std::uint64_t, const storage::Refused&)> refused;
  std::uint64_t submitted = 0;
  std::uint64_t hastened = 0;  // how often somebody waited
  bool full = false;

 private:
  static Failure unused() { return fail(LedgerError::stopped, "not in this test"); }
};

// A lane's loop and meter, and coroutines that wait.
struct Bench {
  // Where the result goes when the wait is over.
  using Verdict = std::shared_ptr<std::optional<Result<void>>>;

  std::uint64_t submit() { return *meter->submit(VoidReservation{}, true); }
  Verdict wait_for(std::uint64_t ticket) {
    auto verdict = std::make_shared<std::optional<Result<void>>>();
    asio::co_spawn(loop, wait(*meter, ticket, verdict), asio::detached);
    poll();
    return verdict;
  }
  static asio::awaitable<void> wait(LedgerMeter& meter, std::uint64_t ticket, Verdict verdict) {
    Result<void> result = co_await meter.durable(ticket);
    *verdict = std::move(result);
  }
  void poll() {
    loop.restart();
    loop.poll();
  }
  void commit(std::uint64_t ticket) {
    ledger.durable(ticket);
    poll();
  }

  asio::io_context loop;
  FakeLedger ledger;
  std::unique_ptr<LedgerMeter> meter = std::make_unique<LedgerMeter>(loop, ledger);
};

}  // namespace

TEST_CASE("durable() completes when the committer reports the ticket, and not before", "[meter]") {
  Bench bench;
  for (int i = 0; i < 3; ++i) bench.submit();
  const auto second = bench.wait_for(2);
  CHECK_FALSE(bench.meter->is_durable(2));
  bench.commit(1);
  CHECK_FALSE(second->has_value());
  CHECK(bench.meter->is_durable(1));
  bench.commit(2);
  REQUIRE(second->has_value());
  CHECK((*second)->has_value());
  CHECK(bench.meter->is_durable(2));
  CHECK_FALSE(bench.meter->is_durable(3));
}

TEST_CASE("durable() of what is on disk already completes at once", "[meter]") {
  Bench bench;
  const auto ticket = bench.submit();
  bench.commit(ticket);
  CHECK(bench.wait_for(ticket)->has_value());
}

TEST_CASE("one batch completes every wait that it covers, whatever their order", "[meter]") {
  Bench bench;
  for (int i = 0; i < 5; ++i) bench.submit();
  const auto fourth = bench.wait_for(4);
  const auto first = bench.wait_for(1);
  const auto third = bench.wait_for(3);
  const auto again = bench.wait_for(3);
  const auto fifth = bench.wait_for(5);
  bench.commit(4);
  for (const auto& verdict : {first, third, again, fourth}) CHECK(verdict->has_value());
  CHECK_FALSE(fifth->has_value());
  bench.commit(5);
  CHECK(fifth->has_value());
}

TEST_CASE("a refused operation completes with the ledger's error, and its neighbours do not", "[meter]") {
  Bench bench;
  for (int i = 0; i < 3; ++i) bench.submit();
  const auto first = bench.wait_for(1);
  const auto second = bench.wait_for(2);
  bench.ledger.refused(2, {Error{"ledger", static_cast<std::uint16_t>(LedgerError::duplicate), "twice"}, {}});
  bench.commit(3);
  REQUIRE(first->has_value());
  CHECK((*first)->has_value());
  REQUIRE(second->has_value());
  REQUIRE_FALSE((*second)->has_value());
  CHECK(is((*second)->error(), LedgerError::duplicate));
  CHECK(bench.meter->is_durable(3));
}

TEST_CASE("a refusal that nobody waits for does not hold up what comes after it", "[meter]") {
  Bench bench;
  for (int i = 0; i < 2; ++i) bench.submit();
  bench.ledger.refused(1, {Error{"ledger", static_cast<std::uint16_t>(LedgerError::unknown_request), "nothing to settle"}, {}});
  bench.commit(2);
  CHECK_FALSE(bench.meter->is_durable(1));
  CHECK(bench.meter->is_durable(2));
}

TEST_CASE("what is behind a refusal is known until the next one is told", "[meter]") {
  using gateway::RefusalKind;
  Bench bench;
  for (int i = 0; i < 2; ++i) bench.submit();
  const auto first = bench.wait_for(1);
  const auto second = bench.wait_for(2);
  const BudgetShortfall shortfall{.budget_id = "bud_1", .budget_name = "search", .left = {5}, .needed = {7}};
  bench.ledger.refused(1, {Error{"ledger", static_cast<std::uint16_t>(LedgerError::budget_exhausted), "short"}, shortfall});
  bench.commit(1);
  REQUIRE(first->has_value());
  CHECK(bench.meter->refusal(1).kind == RefusalKind::budget_exhausted);
  REQUIRE(bench.meter->refusal(1).shortfall);
  CHECK(bench.meter->refusal(1).shortfall->budget_id == "bud_1");
  CHECK(bench.meter->refusal(2).kind == RefusalKind::other);
  bench.ledger.refused(2, {Error{"ledger", static_cast<std::uint16_t>(LedgerError::mismatch), "other"}, {}});
  bench.commit(2);
  REQUIRE(second->has_value());
  CHECK(bench.meter->refusal(2).kind == RefusalKind::key_mismatch);
  CHECK(bench.meter->refusal(1).kind == RefusalKind::other);
}

TEST_CASE("more refusals than are kept never make a refused operation durable", "[meter]") {
  Bench bench;
  constexpr std::uint64_t refusals = 40'000;
  for (std::uint64_t ticket = 1; ticket <= refusals; ++ticket) {
    bench.ledger.refused(ticket, {Error{"ledger", static_cast<std::uint16_t>(LedgerError::invalid), "no"}, {}});
  }
  bench.commit(refusals + 1);
  for (const std::uint64_t ticket : {std::uint64_t{1}, refusals / 2, refusals}) {
    CHECK_FALSE(bench.meter->is_durable(ticket));
    const auto verdict = bench.wait_for(ticket);
    REQUIRE(verdict->has_value());
    CHECK_FALSE((*verdict)->has_value());
  }
  CHECK(bench.meter->is_durable(refusals + 1));
}

TEST_CASE("an operation that the queue does not take is refused at once", "[meter]") {
  Bench bench;
  bench.ledger.full = true;
  const auto ticket = bench.meter->submit(VoidReservation{}, true);
  REQUIRE_FALSE(ticket.has_value());
  CHECK(is(ticket.error(), LedgerError::disk_full));
}

TEST_CASE("waits on the lane end while the committer's thread reports", "[meter]") {
  Bench bench;
  constexpr std::uint64_t tickets = 20'000;
  std::vector<Bench::Verdict> verdicts;
  for (std::uint64_t ticket = 1; ticket <= tickets; ++ticket) verdicts.push_back(bench.wait_for(ticket));
  const auto work = asio::make_work_guard(bench.loop);
  std::thread committer([&bench] {
    for (std::uint64_t ticket = 1; ticket <= tickets; ++ticket) bench.ledger.durable(ticket);
  });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  bench.loop.restart();
  for (std::size_t had = 0; had < verdicts.size() && std::chrono::steady_clock::now() < deadline;) {
    if (verdicts[had]->has_value()) ++had;
    else bench.loop.run_one_for(std::chrono::seconds(1));
  }
  committer.join();
  for (const auto& verdict : verdicts) REQUIRE(verdict->has_value());
}

TEST_CASE("a meter may go away while the committer calls back and coroutines wait", "[meter]") {
  for (int round = 0; round < 200; ++round) {
    Bench bench;
    std::vector<Bench::Verdict> waiting;
    for (std::uint64_t ticket = 1'000'000; ticket < 1'000'010; ++ticket) waiting.push_back(bench.wait_for(ticket));
    std::atomic<std::uint64_t> reported{0};
    std::thread committer([&bench, &reported] {
      const auto durable = bench.ledger.durable;
      const auto refused = bench.ledger.refused;
      for (std::uint64_t ticket = 1; ticket <= 400; ++ticket) {
        if (ticket % 100 == 0) refused(ticket, {Error{"ledger", 6, "twice"}, {}});
        durable(ticket);
        reported.store(ticket);
      }
    });
    while (reported.load() < static_cast<std::uint64_t>(round)) bench.poll();
    bench.meter.reset();
    bench.poll();
    committer.join();
    for (const auto& verdict : waiting) CHECK_FALSE(verdict->has_value());
  }
}

TEST_CASE("a lane's meter reports what a real ledger has written", "[meter]") {
  storage::TemporaryFolder folder;
  SystemClock clock;
  storage::LedgerOptions options;
  options.path = folder.path();
  options.free_bytes_min = 0;
  options.free_fraction_min = 0;
  auto ledger = storage::LedgerStore::open(options, clock);
  REQUIRE(ledger);
  asio::io_context loop;
  LedgerMeter meter(loop, **ledger);
  UuidGenerator ids(clock, 1);
  const RequestId id = ids.next();
  const auto reserved = meter.submit(storage::sample_reservation(id), true);
  const auto settled = meter.submit(storage::sample_settlement(id), false);
  const auto twice = meter.submit(VoidReservation{id, "after its end"}, false);
  REQUIRE(reserved);
  REQUIRE(settled);
  REQUIRE(twice);
  const auto results = std::make_shared<std::vector<Bench::Verdict>>();
  for (const std::uint64_t ticket : {*reserved, *settled, *twice}) {
    results->push_back(std::make_shared<std::optional<Result<void>>>());
    asio::co_spawn(loop, Bench::wait(meter, ticket, results->back()), asio::detached);
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const auto work = asio::make_work_guard(loop);
  while (!results->back()->has_value() && std::chrono::steady_clock::now() < deadline) loop.run_one_for(std::chrono::seconds(1));
  for (const auto& result : *results) REQUIRE(result->has_value());
  CHECK((**results->at(0)).has_value());
  CHECK((**results->at(1)).has_value());
  REQUIRE_FALSE((**results->at(2)).has_value());
  CHECK(is((**results->at(2)).error(), LedgerError::already_ended));
  CHECK((*ledger)->status().open_reservations == 0);
}

}  // namespace ledger_meter_test
