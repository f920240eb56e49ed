#include "cluster/slice_desk.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "storage/slice_dealer.hpp"

namespace outlast::cluster {
namespace {

using storage::SliceDealer;

// A slice counts in 64 bits; half of that leaves room for what lanes give back.
constexpr __int128 slice_max = std::numeric_limits<std::int64_t>::max() / 2;

}  // namespace

void SliceDesk::report(const storage::BudgetAccount& budget, const Incarnation& holder,
                       const shard::BudgetDemand& demand) {
  const Key key{budget.status.budget.id, holder};
  Dealt& dealt = dealt_[key];
  // Nobody can want more than there is, of all shards: what this one lacks its budget's home may allot.
  const PicoUsd amount = budget.status.budget.amount;
  dealt.wanted = std::min(dealt.wanted + std::min(demand.wanted, amount), amount);
  const storage::SliceAccount* const slice = storage::BudgetState::slice_of(budget, holder);
  PicoUsd unseen;
  if (slice != nullptr) unseen = slice->granted - (slice->opened == demand.opened ? demand.seen : PicoUsd{});
  dealt.left = demand.left + std::max(unseen, PicoUsd{});
  if (!std::exchange(dealt.reported, true)) reported_.push_back(key);
}

std::vector<SliceDesk::Key> SliceDesk::take_reported() {
  for (const Key& key : reported_) {
    if (const auto at = dealt_.find(key); at != dealt_.end()) at->second.reported = false;
  }
  return std::exchange(reported_, {});
}

PicoUsd SliceDesk::share_of(const storage::BudgetAccount& budget) {
  return {std::min(budget.status.part().value / SliceDealer::slice_share, slice_max)};
}

PicoUsd SliceDesk::grant_for(storage::BudgetAccount& budget, const Incarnation& holder, std::int64_t now_ns) {
  const BudgetStatus& status = budget.status;
  const auto at = dealt_.find({status.budget.id, holder});
  if (at == dealt_.end() || status.budget.soft || budget.removed) return {};
  Dealt& dealt = at->second;
  __int128& largest_of_late = largest_[status.budget.id];
  largest_of_late = std::max(std::exchange(budget.largest, {}).value, largest_of_late);
  const __int128 largest = largest_of_late;
  const __int128 left = dealt.left.value;
  if (dealt.target.value > 0 && left >= dealt.target.value / 2 && left >= largest) return {};
  const __int128 wanted = std::exchange(dealt.wanted, {}).value;
  if (wanted == 0) return {};
  const bool often = now_ns - dealt.granted_ns < SliceDealer::often_ns;
  largest_of_late -= largest / 8;
  const __int128 share = share_of(budget).value;
  dealt.target.value =
      std::min(std::max({2 * wanted, SliceDealer::takes_min * largest, often ? 2 * dealt.target.value : 0}), share);
  const __int128 pool = budget.pool().value;
  if (pool * SliceDealer::free_share < status.part().value) return {};
  const storage::SliceAccount* const slice = storage::BudgetState::slice_of(budget, holder);
  const __int128 sliced = slice == nullptr ? 0 : slice->left.value;
  const auto holders = static_cast<__int128>(budget.slices.size() + (slice == nullptr ? 1 : 0));
  const __int128 grant = std::min({dealt.target.value - left, share - sliced, pool / (2 * holders)});
  // A slice that the largest reservation does not fit into would only lie there.
  if (grant <= 0 || left + grant < largest) return {};
  dealt.granted_ns = now_ns;
  dealt.left.value += grant;
  return {grant};
}

std::optional<PicoUsd> SliceDesk::surplus_keep(const storage::BudgetAccount& budget, PicoUsd left) {
  if (left.value <= 0 || budget.status.budget.soft || budget.removed) return std::nullopt;
  // A slice within its share may still be more than is left, and lanes would spend it.
  if (budget.pool().value < 0) return PicoUsd{};
  const PicoUsd share = share_of(budget);
  // Down to half of its share, so that not every batch has to.
  if (left > share) return PicoUsd{share.value / 2};
  return std::nullopt;
}

void SliceDesk::forget(const Incarnation& holder) {
  std::erase_if(dealt_, [&holder](const auto& dealt) { return dealt.first.second == holder; });
}

void SliceDesk::forget(const std::string& budget) {
  const auto from = dealt_.lower_bound({budget, Incarnation{}});
  auto to = from;
  while (to != dealt_.end() && to->first.first == budget) ++to;
  dealt_.erase(from, to);
  largest_.erase(budget);
}

}  // namespace outlast::cluster
