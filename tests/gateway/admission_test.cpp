#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "gateway/admission.hpp"
#include "gateway/reservation_refusal.hpp"
#include "gateway/tranches.hpp"

namespace admission_test {

using namespace outlast::gateway;
using namespace outlast;

namespace {

struct Book {
  BudgetSlice& add(const std::string& scope, std::int64_t slice, bool soft = false) {
    Budget budget{.id = "bud_" + std::to_string(book.by_scope.size()), .scope = *Scope::parse(scope), .soft = soft};
    slices.push_back(std::make_shared<BudgetSlice>());
    slices.back()->grant({slice});
    book.by_scope.add(budget.scope, {budget, slices.back()});
    return *slices.back();
  }
  BudgetBook book;
  std::vector<std::shared_ptr<BudgetSlice>> slices;
};

Reservation reservation_of(std::int64_t amount) {
  Reservation reservation;
  reservation.tenant = {"acme", "search", "ann"};
  reservation.key_id = "key_1";
  reservation.amount = {amount};
  reservation.tags = {"nightly"};
  reservation.candidates = {{"alpha", "m"}, {"beta", "n"}};
  return reservation;
}

AttemptLine attempt_at(const std::string& provider, const std::string& model, std::int64_t cost) {
  AttemptLine attempt;
  attempt.provider = provider;
  attempt.model = model;
  attempt.cost = {cost};
  return attempt;
}

}  // namespace

TEST_CASE("a reservation takes from every hard budget on its path, or from none", "[admission]") {
  Book book;
  BudgetSlice& organisation = book.add("organisation:acme", 100);
  BudgetSlice& tag = book.add("tag:nightly", 60);
  BudgetSlice& elsewhere = book.add("team:acme/ads", 100);
  BudgetSlice& soft = book.add("user:acme/search/ann", 100, true);
  Admission admission;
  Reservation reservation = reservation_of(GENERATE(50, 70));
  admission.find(&book.book, reservation);
  CHECK(admission.limited());
  admission.take(reservation);
  const bool fits = reservation.amount.value == 50;
  CHECK(reservation.from_slices == fits);
  CHECK(admission.holds() == fits);
  CHECK(organisation.left().value == (fits ? 50 : 100));
  CHECK(tag.left().value == (fits ? 10 : 60));
  CHECK(elsewhere.left().value == 100);
  CHECK(soft.left().value == 100);
  // The committer sees the demand on each, so that both slices grow.
  CHECK(organisation.take_demand() == reservation.amount);
  CHECK(tag.take_demand() == reservation.amount);
}

TEST_CASE("without a hard budget on the path nothing is taken and nobody waits", "[admission]") {
  Book book;
  book.add("organisation:other", 100);
  book.add("organisation:acme", 100, true);
  Admission admission;
  Reservation reservation = reservation_of(1'000);
  admission.find(GENERATE(true, false) ? &book.book : nullptr, reservation);
  CHECK_FALSE(admission.limited());
  admission.take(reservation);
  CHECK(reservation.from_slices);
  CHECK_FALSE(admission.holds());
}

TEST_CASE("what a request did not cost goes back to the slices that it came from", "[admission]") {
  Book book;
  BudgetSlice& organisation = book.add("organisation:acme", 100);
  BudgetSlice& provider = book.add("provider:beta", 100);
  BudgetSlice& model = book.add("model:m", 100);
  Admission admission;
  Reservation reservation = reservation_of(80);
  admission.find(&book.book, reservation);
  admission.take(reservation);
  REQUIRE(reservation.from_slices);
  admission.charge(attempt_at("alpha", "m", 30));
  admission.charge(attempt_at("beta", "n", 25));
  admission.give();
  CHECK(organisation.left().value == 100 - 55);
  CHECK(provider.left().value == 100 - 25);
  CHECK(model.left().value == 100 - 30);
  CHECK(organisation.given() == 80 - 55);
  CHECK_FALSE(admission.holds());
}

TEST_CASE("an overrun takes no more from a slice than was reserved", "[admission]") {
  Book book;
  BudgetSlice& slice = book.add("organisation:acme", 100);
  Admission admission;
  Reservation reservation = reservation_of(40);
  admission.find(&book.book, reservation);
  admission.take(reservation);
  admission.charge(attempt_at("alpha", "m", 1'000));
  admission.give();
  CHECK(slice.left().value == 60);
  CHECK(slice.given() == 0);
}

TEST_CASE("a reservation that the ledger does not have gives all back, and the ledger does not count it as given",
          "[admission]") {
  Book book;
  BudgetSlice& slice = book.add("organisation:acme", 100);
  Admission admission;
  Reservation reservation = reservation_of(40);
  admission.find(&book.book, reservation);
  admission.take(reservation);
  admission.charge(attempt_at("alpha", "m", 10));
  admission.put_back();
  CHECK(slice.left().value == 100);
  CHECK(slice.given() == 0);
}

TEST_CASE("what it cost is paid from the slice before the pool", "[admission]") {
  Book book;
  BudgetSlice& slice = book.add("organisation:acme", 100);
  Admission admission;
  Reservation reservation = reservation_of(60);
  admission.find(&book.book, reservation);
  admission.take(reservation);
  ReservationExtension first{{}, 1, {60}, 10};  // more than the slice has
  admission.take(first);
  CHECK_FALSE(first.from_slices);
  ReservationExtension second{{}, 2, {30}, 10};
  admission.take(second);
  CHECK(second.from_slices);
  CHECK(slice.left().value == 10);
  SECTION("settled") {
    admission.charge(attempt_at("alpha", "m", 70));
    admission.give();
    CHECK(slice.left().value == 10 + 90 - 70);
  }
  SECTION("after the second extension was refused") {
    admission.undo(second);
    CHECK(slice.left().value == 40);
    admission.charge(attempt_at("alpha", "m", 200));
    admission.give();
    CHECK(slice.left().value == 40);
  }
}

TEST_CASE("slices never go below zero and come back whole over random requests", "[admission]") {
  Random random(7);
  Book book;
  BudgetSlice& organisation = book.add("organisation:acme", 10'000);
  BudgetSlice& key = book.add("key:key_1", 6'000);
  std::int64_t spent = 0;
  for (int i = 0; i < 20'000; ++i) {
    Admission admission;
    Reservation reservation = reservation_of(static_cast<std::int64_t>(random.below(900)));
    admission.find(&book.book, reservation);
    admission.take(reservation);
    const auto cost = static_cast<std::int64_t>(random.below(3));
    if (random.below(4) == 0) {
      admission.put_back();
    } else {
      admission.charge(attempt_at("alpha", "m", cost));
      if (reservation.from_slices && reservation.amount.value > 0) spent += std::min<std::int64_t>(cost, reservation.amount.value);
      admission.give();
    }
    REQUIRE(organisation.left().value == 10'000 - spent);
    REQUIRE(key.left().value == 6'000 - spent);
    if (spent > 5'000) break;
  }
}

TEST_CASE("tranches stay ahead of the content and end at the bound", "[admission]") {
  Tranches tranches(10'000);
  CHECK(tranches.reserved() == Tranches::tokens_min);
  CHECK_FALSE(tranches.due(0));
  CHECK(tranches.due(Tranches::tokens_min - Tranches::headroom_tokens));
  CHECK(tranches.next_tokens() == Tranches::tokens_min);
  for (std::uint64_t bytes = 0; bytes < 40'000; bytes += 64) {
    if (tranches.due(bytes)) tranches.extend(tranches.next_tokens());
    CHECK((tranches.reserved() == 10'000 || tranches.reserved() > bytes));
  }
  CHECK(tranches.reserved() == 10'000);
  CHECK_FALSE(tranches.due(1'000'000));
  CHECK(Tranches(100).reserved() == 100);
  CHECK_FALSE(Tranches(100).due(1'000'000));
}

TEST_CASE("a refusal for want of budget names the budget, what is left and when it resets", "[admission]") {
  const std::int64_t now_ms = 1'790'000'000'000;
  MeterRefusal why{RefusalKind::budget_exhausted,
                   BudgetShortfall{"bud_1", "search", {500'000'000'000'000}, {120'000'000'000}, {300'000'000'000},
                                   BudgetPeriod::month, now_ms + 90'500}};
  const auto refused = reservation_refusal({"ledger", 13, "x"}, why, now_ms);
  CHECK(refused.refusal.status == 429);
  CHECK(refused.refusal.retry_after_s == 91);
  CHECK_FALSE(refused.refusal.should_retry);
  CHECK(refused.refusal.over_budget);
  CHECK(refused.type == "insufficient_quota");
  CHECK(refused.code == "budget_exhausted");
  CHECK_THAT(refused.refusal.message, Catch::Contains("'search'") && Catch::Contains("0.12 of 500.00 USD") &&
                                          Catch::Contains("0.30") && Catch::Contains("resets at 2026-09-2"));
  why.shortfall->resets_ms = 0;
  const auto final_one = reservation_refusal({"ledger", 13, "x"}, why, now_ms);
  CHECK_FALSE(final_one.refusal.retry_after_s);
  CHECK_THAT(final_one.refusal.message, Catch::Contains("does not reset"));
}

TEST_CASE("a repeated key is a conflict, other parameters are unprocessable", "[admission]") {
  const auto of = [](RefusalKind kind) { return reservation_refusal({"ledger", 1, "x"}, {kind, std::nullopt}, 0); };
  CHECK(of(RefusalKind::key_in_progress).refusal.status == 409);
  CHECK(of(RefusalKind::key_in_progress).refusal.should_retry);
  CHECK(of(RefusalKind::key_used).refusal.status == 409);
  CHECK_FALSE(of(RefusalKind::key_used).refusal.should_retry);
  CHECK(of(RefusalKind::key_mismatch).refusal.status == 422);
  CHECK(of(RefusalKind::key_mismatch).type == "idempotency_error");
  CHECK(of(RefusalKind::other).refusal.status == 503);
}

}  // namespace admission_test
