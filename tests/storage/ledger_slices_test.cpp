// Slices against a real store: lanes on several threads that admit by the published book, as a
// gateway does. No budget is overspent, no reservation that slices covered is refused for want of
// budget, and what fits is served to the last.
#include <atomic>
#include <deque>
#include <future>
#include <thread>

#include "storage/ledger_queries.hpp"
#include "storage/slice_dealer.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::ledger_slices_test {
namespace {

PicoUsd dollars(std::int64_t amount) {
  return {static_cast<__int128>(amount) * 1'000'000'000'000};
}

Budget sample_budget(const std::string& id, const std::string& scope, PicoUsd amount) {
  return {id, "", *Scope::parse(scope), amount, BudgetPeriod::total, "UTC", false};
}

template <class Start>
Result<void> wait_for(const Start& start) {
  std::promise<Result<void>> promise;
  std::future<Result<void>> future = promise.get_future();
  start([&promise](Result<void> result) { promise.set_value(std::move(result)); });
  REQUIRE(future.wait_for(std::chrono::seconds(20)) == std::future_status::ready);
  return future.get();
}

void set(LedgerStore& store, const Budget& budget) {
  REQUIRE(wait_for([&](auto done) { store.set_budget(budget, "ann", done); }));
}

BudgetStatus status_of(const LedgerStore& store, const std::string& id) {
  for (const BudgetStatus& status : store.budgets()) {
    if (status.budget.id == id) return status;
  }
  FAIL("no such budget");
  return {};
}

// A lane as the gateway's: takes the worst case from every slice on the path or from none, submits,
// and gives back what a request did not cost.
class SimulatedLane {
 public:
  struct Counts {
    std::uint64_t served = 0;
    std::uint64_t from_slices = 0;
    std::uint64_t refused = 0;
    std::uint64_t refused_although_covered = 0;
  };

  SimulatedLane(LedgerStore& store, const Clock& clock, std::uint64_t seed)
      : store_(store),
        random_(seed),
        ids_(clock, seed),
        submitter_(store.make_submitter(
            [this](std::uint64_t ticket) {
              const std::lock_guard lock(mutex_);
              durable_ = ticket;
              told_.notify_all();
            },
            [this](std::uint64_t ticket, const Refused& refused) {
              const std::lock_guard lock(mutex_);
              refusals_[ticket] = refused;
            })) {}

  // Runs requests of at most `largest`, of which some cost nothing like it, `in_flight` at once.
  void run(int requests, std::int64_t largest, std::size_t in_flight) {
    for (int i = 0; i < requests; ++i) {
      start(largest);
      while (running_.size() > random_.below(in_flight) + 1) finish();
    }
    while (!running_.empty()) finish();
  }
  Counts counts;
  PicoUsd spent;
  std::optional<BudgetShortfall> shortfall;  // of the last refusal

 private:
  struct Running {
    std::uint64_t ticket;
    Reservation reservation;
    std::vector<std::shared_ptr<BudgetSlice>> slices;
  };

  void start(std::int64_t largest) {
    Running one{0, sample_reservation(ids_.next(), "u" + std::to_string(random_.below(3))), {}};
    one.reservation.amount = pico(1 + static_cast<std::int64_t>(random_.below(
                                          static_cast<std::uint64_t>(largest))));
    one.reservation.candidates = {{"alpha", "claude-fable-5"}};
    one.reservation.from_slices = take(one);
    const Result<std::uint64_t> ticket = submitter_->submit(one.reservation, true);
    if (!ticket) std::abort();
    one.ticket = *ticket;
    running_.push_back(std::move(one));
  }
  bool take(Running& one) {
    const Reservation& reservation = one.reservation;
    bool all = true;
    const auto book = store_.budget_book();
    book->by_scope.visit(
        {reservation.tenant, reservation.key_id, reservation.tags, reservation.candidates},
        [&](const BudgetBook::Entry& entry) {
          if (entry.slice == nullptr || !all) return;
          all = entry.slice->take(reservation.amount);
          if (all) one.slices.push_back(entry.slice);
        });
    if (!all) put_back(one);
    return all;
  }
  static void put_back(Running& one) {
    for (const auto& slice : one.slices) slice->put_back(one.reservation.amount);
    one.slices.clear();
  }
  std::optional<Refused> wait_for(std::uint64_t ticket) {
    std::unique_lock lock(mutex_);
    const bool told =
        told_.wait_for(lock, std::chrono::seconds(20), [&] { return durable_ >= ticket; });
    if (!told) std::abort();
    const auto at = refusals_.find(ticket);
    if (at == refusals_.end()) return std::nullopt;
    return at->second;
  }
  void finish() {
    Running one = std::move(running_.front());
    running_.pop_front();
    if (const std::optional<Refused> refused = wait_for(one.ticket)) {
      if (!is(refused->error, LedgerError::budget_exhausted)) std::abort();
      ++counts.refused;
      if (one.reservation.from_slices) ++counts.refused_although_covered;
      shortfall = refused->shortfall;
      return put_back(one);
    }
    ++counts.served;
    counts.from_slices += one.reservation.from_slices ? 1 : 0;
    const PicoUsd amount = one.reservation.amount;
    PicoUsd cost;
    if (random_.below(5) == 0) {
      if (!submitter_->submit(VoidReservation{one.reservation.request_id, "refused"}, false))
        std::abort();
    } else {
      cost = {static_cast<__int128>(random_.below(static_cast<std::uint64_t>(amount.value) + 1))};
      Settlement settlement = sample_settlement(one.reservation.request_id);
      settlement.attempt.cost = cost;
      if (!submitter_->submit(settlement, false)) std::abort();
    }
    spent += cost;
    for (const auto& slice : one.slices) slice->give(amount - cost);
  }

  LedgerStore& store_;
  Random random_;
  UuidGenerator ids_;
  std::deque<Running> running_;
  std::mutex mutex_;
  std::condition_variable told_;
  std::uint64_t durable_ = 0;
  std::map<std::uint64_t, Refused> refusals_;
  std::unique_ptr<LedgerSubmitter> submitter_;  // last: its callbacks use the above
};

// Lanes on threads of their own; the sum of what they counted.
SimulatedLane::Counts run_lanes(LedgerStore& store, const Clock& clock, int requests,
                                std::int64_t largest, PicoUsd& spent) {
  std::vector<std::unique_ptr<SimulatedLane>> lanes;
  for (std::uint64_t seed = 1; seed <= 3; ++seed)
    lanes.push_back(std::make_unique<SimulatedLane>(store, clock, seed));
  std::vector<std::thread> threads;
  for (const auto& lane : lanes) {
    threads.emplace_back([&lane = *lane, requests, largest] { lane.run(requests, largest, 40); });
  }
  for (std::thread& thread : threads) thread.join();
  SimulatedLane::Counts sum;
  for (const auto& lane : lanes) {
    sum.served += lane->counts.served;
    sum.from_slices += lane->counts.from_slices;
    sum.refused += lane->counts.refused;
    sum.refused_although_covered += lane->counts.refused_although_covered;
    spent += lane->spent;
  }
  return sum;
}

// No prefix of the ledger takes a budget beyond its amount: verify() checks each.
void require_sound(const LedgerStore& store) {
  require_whole(store);
  const Result<std::vector<AccountBalance>> accounts = store.accounts();
  REQUIRE(accounts);
  __int128 sum = 0;
  for (const AccountBalance& account : *accounts) sum += account.balance.value;
  CHECK((sum == 0));
  for (const BudgetStatus& status : store.budgets()) CHECK(status.held.value == 0);
}

}  // namespace

TEST_CASE("with money to spare nearly every reservation comes from slices, and none is refused",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  for (const char* scope : {"organisation:acme", "team:acme/search", "user:acme/search/u0",
                            "key:key_u1", "model:claude-fable-5", "provider:alpha"}) {
    set(*store, sample_budget(std::string("bud_") + scope, scope, dollars(1)));
  }
  PicoUsd spent;
  const SimulatedLane::Counts counts = run_lanes(*store, clock, 4'000, 1'000'000, spent);
  CHECK(counts.refused == 0);
  CHECK(counts.served == 12'000);
  CHECK(counts.from_slices > 9'000);
  CHECK(status_of(*store, "bud_organisation:acme").used == spent);
  // What the last settlements gave back beyond a slice's share goes with the next batch.
  SimulatedLane(*store, clock, 9).run(50, 10, 1);
  for (const BudgetStatus& status : store->budgets()) {
    CHECK(status.sliced.value * SliceDealer::slice_share <= status.budget.amount.value);
  }
  require_sound(*store);
}

TEST_CASE("no reservation that slices cover is refused, and no budget overspent, to the last cent",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  constexpr std::int64_t largest = 10'000;
  // About half of what the requests would cost.
  set(*store, sample_budget("bud_acme", "organisation:acme", pico(12'000'000)));
  set(*store, sample_budget("bud_u0", "user:acme/search/u0", pico(6'000'000)));
  PicoUsd spent;
  const SimulatedLane::Counts counts = run_lanes(*store, clock, 4'000, largest, spent);
  INFO("served " << counts.served << " from slices " << counts.from_slices << " refused "
                 << counts.refused);
  CHECK(counts.refused_although_covered == 0);
  CHECK(counts.refused > 0);
  CHECK(counts.from_slices > 100);
  const BudgetStatus status = status_of(*store, "bud_acme");
  CHECK(status.used == spent);
  CHECK(status.used <= status.budget.amount);
  // Small requests pass until next to nothing is left.
  SimulatedLane last(*store, clock, 9);
  last.run(20'000, 20, 1);
  CHECK(status_of(*store, "bud_acme").left() < pico(20));
  REQUIRE(last.shortfall);
  CHECK(last.shortfall->budget_name == "organisation:acme");
  CHECK(last.shortfall->needed > last.shortfall->left);
  CHECK(last.shortfall->resets_ms == 0);
  require_sound(*store);
}

TEST_CASE("1,000 requests at once when 2 % of a budget is left: overspend is zero",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  set(*store, sample_budget("bud_acme", "organisation:acme", pico(1'000'000)));
  WaitingSubmitter lane(*store);
  UuidGenerator ids(clock, 1);
  Reservation first = sample_reservation(ids.next());
  first.amount = pico(980'000);
  CHECK_FALSE(lane.run(first));
  CHECK_FALSE(lane.run(sample_settlement(first.request_id, 980'000)));
  std::vector<RequestId> requests;
  for (int i = 0; i < 1'000; ++i) {
    Reservation reservation = sample_reservation(ids.next());
    reservation.amount = pico(100);
    requests.push_back(reservation.request_id);
    lane.submit(reservation);
  }
  lane.wait();
  CHECK(lane.refusals().size() == 800);  // 20,000 are left: 200 fit, and are served
  CHECK(status_of(*store, "bud_acme").left().value == 0);
  for (const RequestId& id : requests) lane.submit(sample_settlement(id, 1));
  lane.wait();
  CHECK(status_of(*store, "bud_acme").used == pico(980'200));
  require_sound(*store);
}

TEST_CASE("slices of a dead process return to their budgets", "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  PicoUsd spent;
  {
    const auto store = open_store(folder.path(), clock);
    set(*store, sample_budget("bud_acme", "organisation:acme", dollars(1)));
    run_lanes(*store, clock, 500, 1'000'000, spent);
    CHECK(status_of(*store, "bud_acme").sliced.value > 0);
  }
  const auto store = open_store(folder.path(), clock);
  const BudgetStatus status = status_of(*store, "bud_acme");
  CHECK(status.sliced.value == 0);
  CHECK(status.used == spent);
  require_sound(*store);
}

TEST_CASE("an amount lowered below what is left takes the slice back, and lanes spend no more of it",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  PicoUsd spent;
  set(*store, sample_budget("bud_acme", "organisation:acme", dollars(1)));
  // Much is asked for, and refused, so that much is granted next, however fast the lanes are.
  store->budget_book()->by_scope.visit_all(
      [](const BudgetBook::Entry& entry) { REQUIRE_FALSE(entry.slice->take(dollars(1))); });
  run_lanes(*store, clock, 500, 1'000'000, spent);
  REQUIRE(status_of(*store, "bud_acme").sliced > spent);
  // A hundredth is left; the slice's share of the new amount would be five times as much.
  const PicoUsd lowered{spent.value * 101 / 100};
  set(*store, sample_budget("bud_acme", "organisation:acme", lowered));
  const BudgetStatus before = status_of(*store, "bud_acme");
  CHECK(before.used + before.held + before.sliced <= lowered);
  run_lanes(*store, clock, 500, 1'000'000, spent);
  CHECK(spent <= lowered);
  CHECK(status_of(*store, "bud_acme").used == spent);
  require_sound(*store);
}

TEST_CASE("budgets that come, change and go while lanes run are never overspent",
          "[ledger][money]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  set(*store, sample_budget("bud_acme", "organisation:acme", pico(4'000'000'000)));
  std::atomic<bool> stop{false};
  std::thread admin([&store, &stop] {
    Random random(7);
    while (!stop) {
      std::promise<void> promise;
      const auto done = [&promise](const Result<void>&) { promise.set_value(); };
      const std::string id = "bud_" + std::to_string(random.below(3));
      Budget budget = sample_budget(id, "user:acme/search/u" + id.substr(4), pico(800'000'000));
      budget.amount.value += static_cast<__int128>(random.below(1'000));
      budget.soft = random.below(3) == 0;
      if (random.below(3) == 0) store->remove_budget(id, "ann", done);
      else store->set_budget(budget, "ann", done);
      promise.get_future().wait();
    }
  });
  PicoUsd spent;
  run_lanes(*store, clock, 3'000, 1'000'000, spent);
  stop = true;
  admin.join();
  CHECK(status_of(*store, "bud_acme").used == spent);
  require_sound(*store);
}

}  // namespace outlast::storage::ledger_slices_test
