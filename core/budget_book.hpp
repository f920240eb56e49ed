// BudgetBook: the live budgets of a node, by scope, with the node's slice of each. It lets a lane admit a request
// against every budget on its path without asking anybody.
//
// A slice is money of a budget that the ledger has granted to this node, durably, and that this node has not reserved
// yet. A lane takes the worst case from every slice on the path, then submits the reservation (from_slices = true);
// when it has submitted the end, it gives back what the reservation did not cost. The committer grants more, and takes
// back what is short elsewhere. The ledger's state keeps the same sums, in the order of entries, so that a reservation
// covered by slices is never refused for want of budget and no money is spent twice.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "core/budget.hpp"
#include "core/scope_index.hpp"

namespace outlast {

// One budget's slice on this node: int64 pico-USD, so at most some nine million dollars. Any thread; no locks. It lives
// as long as the budget, through changes of its amount.
class BudgetSlice {
 public:
  // Takes `amount` if so much is left. Notes the demand either way: the committer grants by it.
  bool take(PicoUsd amount) {
    if (amount.value > std::numeric_limits<std::int64_t>::max()) return false;
    const auto wanted = static_cast<std::int64_t>(amount.value);
    demand_.fetch_add(wanted, std::memory_order_relaxed);
    std::int64_t left = left_.load(std::memory_order_relaxed);
    while (left >= wanted) {
      if (left_.compare_exchange_weak(left, left - wanted, std::memory_order_acq_rel)) return true;
    }
    return false;
  }
  // After the operation that frees it was submitted, never before: the ledger must see them in that order.
  void give(PicoUsd amount) { left_.fetch_add(static_cast<std::int64_t>(amount.value), std::memory_order_acq_rel); }

  // The committer's: takes back all that is left, for an entry that returns it.
  PicoUsd take_all() { return {left_.exchange(0, std::memory_order_acq_rel)}; }
  // What was asked for since the last call.
  PicoUsd take_demand() { return {demand_.exchange(0, std::memory_order_relaxed)}; }
  [[nodiscard]] PicoUsd left() const { return {left_.load(std::memory_order_acquire)}; }

 private:
  std::atomic<std::int64_t> left_{0};
  std::atomic<std::int64_t> demand_{0};
};

struct BudgetBook {
  struct Entry {
    Budget budget;
    std::shared_ptr<BudgetSlice> slice;
  };
  ScopeIndex<Entry> by_scope;
};

}  // namespace outlast
