// The part of BudgetState that has to do with allotments: what a budget's home gives to the ledgers of other shards.
#include <utility>

#include "storage/budget_state.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

AllotmentSide side_of(const BudgetAccount& account) {
  const BudgetStatus& status = account.status;
  return {status.away, status.budget.soft, true, account.pool().value};
}

}  // namespace

void BudgetState::allotted(BudgetAccount& account) {
  touch(account);
  account.stale_allotments = true;
  account.status.allotted = {allotted_of(account.allotments, account.status.away)};
}

std::optional<LedgerError> BudgetState::grant(const proto::AllotmentGranted& body,
                                              std::uint64_t index) {
  BudgetAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_budget;
  const std::optional<LedgerError> error =
      take_grant(account->allotments, side_of(*account), body, index);
  if (!error) allotted(*account);
  return error;
}

std::optional<LedgerError> BudgetState::take_back(const proto::AllotmentReturned& body) {
  BudgetAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_budget;
  const std::optional<LedgerError> error =
      take_return(account->allotments, side_of(*account), body);
  if (!error) allotted(*account);
  return error;
}

// The budget goes, and what its sides gave each other with it.
void BudgetState::erase_allotments(const BudgetAccount& account) {
  for (const auto& [shard, allotment] : account.allotments)
    erased_.push_back(allotment_key({false, account.status.budget.id, shard, {}}));
}

bool BudgetState::restore(const AllotmentRow& row) {
  BudgetAccount* const account = find(row.subject);
  if (account == nullptr) return false;
  BudgetStatus& status = account->status;
  if (!restore_allotment(account->allotments, status.away, row.shard, row.allotment)) return false;
  status.allotted = {allotted_of(account->allotments, status.away)};
  return true;
}

void BudgetState::collect_allotments(BudgetAccount& account, TableChanges& changes) {
  if (!std::exchange(account.stale_allotments, false)) return;
  for (const auto& [shard, allotment] : account.allotments) {
    const AllotmentRow whole{false, account.status.budget.id, shard, allotment};
    row_.clear();
    encode(row_, whole);
    changes.put(Table::meta, allotment_key(whole), row_);
  }
}

}  // namespace outlast::storage
