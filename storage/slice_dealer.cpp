#include "storage/slice_dealer.hpp"

#include <algorithm>
#include <limits>

namespace outlast::storage {
namespace {

constexpr int take_back_tries = 3;
// A slice counts in 64 bits; half of that leaves room for what lanes give back.
constexpr __int128 slice_max = std::numeric_limits<std::int64_t>::max() / 2;

}  // namespace

SliceDealer::Dealt& SliceDealer::dealt_to(const BudgetAccount& budget) {
  Dealt& dealt = dealt_[budget.status.budget.id];
  if (dealt.slice == nullptr) dealt.slice = std::make_shared<BudgetSlice>();
  return dealt;
}

std::shared_ptr<BudgetSlice> SliceDealer::slice_of(const BudgetAccount& budget) {
  return budget.status.budget.soft ? nullptr : dealt_to(budget).slice;
}

void SliceDealer::forget(const std::string& budget_id) { dealt_.erase(budget_id); }

PicoUsd SliceDealer::take_back(const BudgetAccount& budget, PicoUsd most) {
  const PicoUsd sliced = budget.own.left;
  const auto at = dealt_.find(budget.status.budget.id);
  if (sliced.value <= 0 || at == dealt_.end()) return {};
  BudgetSlice& slice = *at->second.slice;
  for (int attempt = 0; attempt < take_back_tries; ++attempt) {
    const PicoUsd taken = slice.take_back({std::numeric_limits<std::int64_t>::max()});
    if (taken.value == 0) return {};
    // What lanes gave for ended reservations that the ledger has not come to is in the slice, but
    // not in `sliced` yet; what they took and the ledger has not come to is the other way round.
    const auto ahead = static_cast<std::int64_t>(slice.given() - budget.returned);
    const __int128 returnable = taken.value - std::max<std::int64_t>(ahead, 0);
    const __int128 returned = std::min({returnable, sliced.value, most.value});
    if (returned > 0) {
      slice.put_back({taken.value - returned});
      return {returned};
    }
    slice.put_back(taken);  // somebody gives just now
  }
  return {};
}

PicoUsd SliceDealer::surplus_of(const BudgetAccount& budget) {
  const __int128 share = budget.status.part().value / slice_share;
  const __int128 sliced = budget.own.left.value;
  if (budget.status.budget.soft || sliced == 0) return {};
  // Down to half of its share, so that not every batch has to. And where a person lowered the
  // amount, what the budget is overdrawn by: a slice within its share may still be more than is
  // left, and lanes would spend it.
  const __int128 beyond_share = sliced > share ? sliced - share / 2 : 0;
  const __int128 most = std::max(beyond_share, -budget.pool().value);
  return most > 0 ? take_back(budget, {most}) : PicoUsd{};
}

PicoUsd SliceDealer::grant_for(BudgetAccount& budget, std::int64_t now_ns) {
  const BudgetStatus& status = budget.status;
  if (status.budget.soft || budget.removed) return {};
  Dealt& dealt = dealt_to(budget);
  const __int128 left = dealt.slice->left().value;
  dealt.largest = std::max(budget.largest.value, dealt.largest);
  budget.largest = {};
  if (dealt.target > 0 && left >= dealt.target / 2 && left >= dealt.largest) return {};
  const __int128 demand = dealt.slice->take_demand().value;
  if (demand == 0) return {};
  const bool often = now_ns - dealt.granted_ns < often_ns;
  const __int128 largest = dealt.largest;
  dealt.largest -= largest / 8;
  dealt.target = std::max({2 * demand, takes_min * largest, often ? 2 * dealt.target : 0});
  const __int128 share = status.part().value / slice_share;
  dealt.target = std::min({dealt.target, share, slice_max});
  const __int128 pool = budget.pool().value;
  if (pool * free_share < status.part().value) return {};
  const __int128 grant = std::min({dealt.target - left, share - budget.own.left.value, pool / 2});
  // A slice that the largest reservation does not fit into would only lie there.
  if (grant <= 0 || left + grant < largest) return {};
  dealt.granted_ns = now_ns;
  return {grant};
}

void SliceDealer::granted(const std::string& budget_id, PicoUsd amount) {
  if (const auto at = dealt_.find(budget_id); at != dealt_.end()) at->second.slice->grant(amount);
}

}  // namespace outlast::storage
