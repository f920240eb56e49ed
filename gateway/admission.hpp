// Admission: one request's part of the node's budget slices, from its reservation to its end. It lets a lane admit a
// request against every hard budget on its path without asking anybody, and mirrors what the ledger's state does with
// the same operations, so that both agree on what is left in each slice (core/budget_book.hpp).
//
// Pure but for the slices' atomics. One per exchange, on its lane.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "core/budget_book.hpp"
#include "core/metering.hpp"

namespace outlast::gateway {

class Admission {
 public:
  Admission() = default;
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // Finds the hard budgets on the reservation's path. `book` (may be null) outlives this.
  void find(const BudgetBook* book, const Reservation& reservation);
  // Whether a hard budget applies.
  [[nodiscard]] bool limited() const { return !parts_.empty(); }

  // Takes the amount from the slice of every hard budget, or from none, and says in from_slices which. Without a hard
  // budget there is nothing to take: from_slices is true, and nobody need wait.
  void take(Reservation& reservation);
  void take(ReservationExtension& extension);
  // The last take() of an extension, where the ledger refused it or could not be told: puts its part back.
  void undo(const ReservationExtension& extension);

  // What an attempt or the settlement costs, as it is told to the ledger.
  void charge(const AttemptLine& attempt);

  // The reservation stands in the ledger and its end was submitted: gives back what it did not cost.
  void give();
  // The ledger has no reservation: all that was taken goes back.
  void put_back();
  // The end could not be submitted: the ledger holds the part until its next start, so it is not given away twice.
  void abandon();
  [[nodiscard]] bool holds() const { return holds_; }

  // Counts a refusal for the budget of that id, where it is on the path.
  void count_refusal(std::string_view budget_id) const;

 private:
  struct Part {
    const BudgetBook::Entry* entry = nullptr;
    BudgetSlice* slice = nullptr;  // the entry's, for this request
    PicoUsd from_slice;  // of what is reserved
    PicoUsd charged;     // of what is reserved
    bool asked_and_got = false;  // of the take under way
  };
  bool take_all(PicoUsd amount);
  // Every part of a slice leaves by `leave`.
  template <class Leave>
  void end(const Leave& leave);

  std::vector<Part> parts_;
  PicoUsd reserved_;
  bool holds_ = false;  // something of a slice
};

}  // namespace outlast::gateway
