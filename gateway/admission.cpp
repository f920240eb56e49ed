#include "gateway/admission.hpp"

#include <algorithm>

#include "core/check.hpp"

namespace outlast::gateway {
namespace {

// As the ledger's state has it (storage/budget_state.cpp): a budget on a model or a provider pays only for what went
// there.
bool pays_for(const Budget& budget, const AttemptLine& attempt) {
  if (budget.scope.kind == ScopeKind::model) return budget.scope.value == attempt.model;
  if (budget.scope.kind == ScopeKind::provider) return budget.scope.value == attempt.provider;
  return true;
}

}  // namespace

void Admission::find(const BudgetBook* book, const Reservation& reservation) {
  check(!holds_, "a path is looked for before anything is taken for it");
  parts_.clear();
  if (book == nullptr || book->by_scope.empty()) return;
  const SpendPath path{reservation.tenant, reservation.key_id, reservation.tags, reservation.candidates};
  book->by_scope.visit(path, [this, book, &reservation](const BudgetBook::Entry& entry) {
    if (entry.budget.soft) return;
    BudgetSlice* const slice = book->slice_of(entry, reservation.tenant.organisation);
    if (slice != nullptr) parts_.push_back({&entry, slice, {}, {}});
  });
}

// Asks every slice, also after one fell short, so that the committer sees the demand on each.
bool Admission::take_all(PicoUsd amount) {
  if (amount.value == 0) return true;
  std::size_t failed = 0;
  for (Part& part : parts_) {
    part.asked_and_got = part.slice->take(amount);
    if (!part.asked_and_got) ++failed;
  }
  for (Part& part : parts_) {
    if (!part.asked_and_got) continue;
    if (failed > 0) part.slice->put_back(amount);
    else part.from_slice += amount;
  }
  holds_ = holds_ || (failed == 0 && !parts_.empty());
  return failed == 0;
}

void Admission::take(Reservation& reservation) {
  reserved_ = reservation.amount;
  reservation.from_slices = take_all(reservation.amount);
}

void Admission::take(ReservationExtension& extension) {
  reserved_ += extension.amount;
  extension.from_slices = take_all(extension.amount);
}

void Admission::undo(const ReservationExtension& extension) {
  reserved_ -= extension.amount;
  if (!extension.from_slices) return;
  for (Part& part : parts_) {
    part.from_slice -= extension.amount;
    part.slice->put_back(extension.amount);
  }
}

void Admission::charge(const AttemptLine& attempt) {
  for (Part& part : parts_) {
    if (!pays_for(part.entry->budget, attempt)) continue;
    part.charged += std::min(attempt.cost, reserved_ - part.charged);
  }
}

template <class Leave>
void Admission::end(const Leave& leave) {
  for (Part& part : parts_) {
    if (part.from_slice.value > 0) leave(part);
    part.from_slice = {};
  }
  holds_ = false;
}

void Admission::give() {
  // What it cost is paid from the slice first: the rest of what came from there goes back there.
  end([](Part& part) {
    if (part.from_slice > part.charged) part.slice->give(part.from_slice - part.charged);
  });
}

void Admission::put_back() {
  end([](Part& part) { part.slice->put_back(part.from_slice); });
}

void Admission::abandon() {
  end([](Part&) {});
}

void Admission::count_refusal(std::string_view budget_id) const {
  for (const Part& part : parts_) {
    if (part.entry->budget.id == budget_id) part.slice->count_refusal();
  }
}

}  // namespace outlast::gateway
