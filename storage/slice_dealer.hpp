// SliceDealer: deals out slices of budgets to the lanes of this process, and takes them back where
// a reservation is short. It decides how much; the entries that say so are the writer's.
//
// A slice is as large as the demand of late asks for, at most 5 % of the budget, and grows while
// grants come often, so that an entry carries many requests. Nothing is dealt out while less than
// 10 % of the budget is free: near the limit the ledger decides each reservation by itself. One
// owner, beside the state machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/budget_book.hpp"
#include "storage/budget_state.hpp"

namespace outlast::storage {

class SliceDealer {
 public:
  static constexpr std::int64_t slice_share = 20;  // at most one of so many parts of a budget
  static constexpr std::int64_t free_share = 10;   // at least one of so many parts stays free
  static constexpr std::int64_t takes_min = 8;     // of the largest reservation of late
  static constexpr std::int64_t often_ns = 100'000'000;

  // The slice of a hard budget: always the same one until forget(). Null for a soft one.
  std::shared_ptr<BudgetSlice> slice_of(const BudgetAccount& budget);
  // The budget was removed, or is soft now.
  void forget(const std::string& budget_id);

  // Takes out of the budget's slice what may be returned to the budget: only what the ledger has
  // in it as well, so that no reservation that a lane has taken from the slice falls short.
  PicoUsd take_back(const BudgetAccount& budget, PicoUsd most);
  // What the slice should get, by the demand since the last grant; zero for nothing.
  PicoUsd grant_for(BudgetAccount& budget, std::int64_t now_ns);
  // What the slice holds beyond its share, taken out of it; zero for nothing.
  PicoUsd surplus_of(const BudgetAccount& budget);
  // The entry is durable: the money may be spent.
  void granted(const std::string& budget_id, PicoUsd amount);

 private:
  struct Dealt {
    std::shared_ptr<BudgetSlice> slice;
    __int128 largest = 0;  // reservation of late
    __int128 target = 0;
    std::int64_t granted_ns = 0;
  };
  Dealt& dealt_to(const BudgetAccount& budget);

  std::unordered_map<std::string, Dealt> dealt_;
};

}  // namespace outlast::storage
