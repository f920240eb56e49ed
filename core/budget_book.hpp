// BudgetBook: the live budgets of a node, by scope, with the node's slice of each. It lets a lane admit a request
// against every budget on its path without asking anybody.
//
// A slice is money of a budget that the ledger has granted to this node, durably, and that this node has not reserved
// yet. A lane takes the worst case from every slice on the path, then submits the reservation (from_slices = true);
// when it has submitted the end, it gives back what the reservation did not cost (a budget on a model or a provider pays
// only for attempts that went there). The committer grants more, and takes back what is short elsewhere. The ledger's state keeps the same sums, in the order of entries, so that a reservation
// covered by slices is never refused for want of budget and no money is spent twice.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

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
  // Undoes a take that no entry follows: of a path where another slice fell short, or of a reservation that could not
  // be submitted or that the ledger refused.
  void put_back(PicoUsd amount) { add(amount); }
  // What an ended reservation did not cost: of all that was taken for it, what its attempts left over. After its
  // settlement or void was submitted, never before: the ledger must see them in that order.
  void give(PicoUsd amount) {
    given_.fetch_add(static_cast<std::uint64_t>(amount.value), std::memory_order_relaxed);
    add(amount);  // whoever sees it here sees it in given_
  }

  // The committer's, from here on. A grant arrives once its entry is durable.
  void grant(PicoUsd amount) { add(amount); }
  // Takes back what is left, at most `most`, for an entry that returns it.
  PicoUsd take_back(PicoUsd most) {
    std::int64_t left = left_.load(std::memory_order_relaxed);
    for (;;) {
      const std::int64_t taken = left < most.value ? left : static_cast<std::int64_t>(most.value);
      if (taken <= 0) return {};
      if (left_.compare_exchange_weak(left, left - taken, std::memory_order_acq_rel)) return {taken};
    }
  }
  // The sum of all that was ever given, modulo 2^64: what of it the ledger has not applied yet is not its to return.
  [[nodiscard]] std::uint64_t given() const { return given_.load(std::memory_order_relaxed); }
  // What was asked for since the last call.
  PicoUsd take_demand() { return {demand_.exchange(0, std::memory_order_relaxed)}; }
  [[nodiscard]] PicoUsd left() const { return {left_.load(std::memory_order_acquire)}; }

  // Requests refused for want of this budget, since the process started; for whoever renders metrics.
  void count_refusal() { refusals_.fetch_add(1, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t refusals() const { return refusals_.load(std::memory_order_relaxed); }

 private:
  void add(PicoUsd amount) {
    left_.fetch_add(static_cast<std::int64_t>(amount.value), std::memory_order_acq_rel);
  }
  std::atomic<std::int64_t> left_{0};
  std::atomic<std::uint64_t> given_{0};
  std::atomic<std::int64_t> demand_{0};
  std::atomic<std::uint64_t> refusals_{0};
};

struct BudgetBook {
  struct Entry {
    Budget budget;
    std::shared_ptr<BudgetSlice> slice;                    // none: soft, or it has one for each shard
    std::vector<std::shared_ptr<BudgetSlice>> of_shards;   // in a cluster, of a budget that concerns requests of all shards

    // What the node may spend of it without asking, of all shards.
    [[nodiscard]] PicoUsd left() const {
      PicoUsd left = slice ? slice->left() : PicoUsd{};
      for (const auto& one : of_shards) left += one->left();
      return left;
    }
    [[nodiscard]] std::uint64_t refusals() const {
      std::uint64_t refusals = slice ? slice->refusals() : 0;
      for (const auto& one : of_shards) refusals += one->refusals();
      return refusals;
    }
  };
  // Whose slice pays for a request of that organisation; null: nobody's.
  [[nodiscard]] BudgetSlice* slice_of(const Entry& entry, std::string_view organisation) const {
    if (entry.of_shards.empty()) return entry.slice.get();
    return entry.of_shards[shard_of(organisation)].get();
  }

  ScopeIndex<Entry> by_scope;
  // Of an organisation: place in `of_shards`. Set where an entry has any.
  std::function<std::size_t(std::string_view organisation)> shard_of;
};

}  // namespace outlast
