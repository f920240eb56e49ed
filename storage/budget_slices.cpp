// The part of BudgetState that has to do with slices: whose they are, and when they end.
#include "core/check.hpp"
#include "storage/budget_state.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {

const SliceAccount* BudgetState::slice_of(const BudgetAccount& budget, const Incarnation& holder) {
  if (holder.is_nil()) return &budget.own;
  const auto at = budget.slices.find(holder);
  return at == budget.slices.end() ? nullptr : &at->second;
}

PicoUsd BudgetHold::live_slice(const Incarnation& holder) const {
  if (from_slice.value == 0) return {};
  const SliceAccount* const of_holder = BudgetState::slice_of(*budget, holder);
  return of_holder != nullptr && of_holder->opened == slice ? from_slice : PicoUsd{};
}

// Adds to what is left of a slice; of less than nothing, takes from it.
void BudgetState::move(BudgetAccount& account, const Incarnation& holder, PicoUsd amount) {
  account.status.sliced += amount;
  if (holder.is_nil()) {
    account.own.left += amount;
    return;
  }
  const auto at = account.slices.find(holder);
  check(at != account.slices.end(), "a holder has the slice that it moves money of");
  at->second.left += amount;
  at->second.dirty = true;
}

std::optional<LedgerError> BudgetState::grant(const proto::SliceGranted& body,
                                              std::uint64_t index) {
  BudgetAccount* const account = find(body.budget);
  if (account == nullptr) return LedgerError::unknown_budget;
  if (account->status.budget.soft || body.amount.value <= 0 || body.amount > account->pool())
    return LedgerError::invalid;
  if (!body.holder.is_nil()) {
    const auto [at, opened] = account->slices.try_emplace(body.holder);
    if (opened) {
      at->second.opened = index;
      sliced_to_[body.holder].insert(account);
    }
    at->second.granted += body.amount;
  }
  touch(*account);
  move(*account, body.holder, body.amount);
  return std::nullopt;
}

std::optional<LedgerError> BudgetState::take_back(const proto::SliceReturned& body) {
  BudgetAccount* const account = find(body.budget);
  if (account == nullptr) return LedgerError::unknown_budget;
  const SliceAccount* const slice = slice_of(*account, body.holder);
  if (body.amount.value <= 0 || slice == nullptr || body.amount > slice->left)
    return LedgerError::invalid;
  if (!body.holder.is_nil()) account->slices.at(body.holder).returned += body.amount;
  touch(*account);
  move(*account, body.holder, {-body.amount.value});
  return std::nullopt;
}

void BudgetState::end_own_slice(BudgetAccount& account) {
  ++account.own.opened;
  if (account.own.left.value == 0) return;
  touch(account);
  account.status.sliced -= account.own.left;
  account.own.left = {};
}

void BudgetState::fence() {
  for (const auto& [id, account] : budgets_) end_own_slice(*account);
}

void BudgetState::close_slice(BudgetAccount& account, const Incarnation& holder) {
  const auto at = account.slices.find(holder);
  check(at != account.slices.end(), "a slice that ends was there");
  touch(account);
  account.status.sliced -= at->second.left;
  erased_.push_back(slice_key(holder, account.status.budget.id));
  account.slices.erase(at);
  const auto of_holder = sliced_to_.find(holder);
  of_holder->second.erase(&account);
  if (of_holder->second.empty()) sliced_to_.erase(of_holder);
}

// The budget goes, or nobody may deal out slices of it any more.
void BudgetState::end_slices(BudgetAccount& account) {
  end_own_slice(account);
  while (!account.slices.empty()) close_slice(account, Incarnation(account.slices.begin()->first));
}

void BudgetState::end_holder(const Incarnation& holder, bool spent) {
  const auto of_holder = sliced_to_.find(holder);
  if (of_holder == sliced_to_.end()) return;
  const std::set<BudgetAccount*> accounts = of_holder->second;
  for (BudgetAccount* account : accounts) {
    if (spent) account->status.used += account->slices.at(holder).left;
    close_slice(*account, holder);
  }
}

bool BudgetState::restore(const SliceRow& row) {
  BudgetAccount* const account = find(row.budget);
  if (account == nullptr || row.holder.is_nil()) return false;
  auto& slice = account->slices[row.holder];
  static_cast<SliceAccount&>(slice) = {row.left, row.granted, row.returned, row.opened};
  // The budget's row has the sum of all.
  account->own.left -= row.left;
  sliced_to_[row.holder].insert(account);
  return account->own.left.value >= 0;
}

SliceRow BudgetState::row_of(const Incarnation& holder, const SliceAccount& slice) {
  return {holder, {}, slice.left, slice.granted, slice.returned, slice.opened};
}

void BudgetState::collect_slices(BudgetAccount& account, TableChanges& changes) {
  for (auto& [holder, slice] : account.slices) {
    if (!slice.dirty) continue;
    row_.clear();
    encode(row_, row_of(holder, slice));
    changes.put(Table::meta, slice_key(holder, account.status.budget.id), row_);
    slice.dirty = false;
  }
}

}  // namespace outlast::storage
