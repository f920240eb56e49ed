// The part of BudgetState that has to do with allotments: what a budget's home gives to the ledgers of other shards.
#include "storage/budget_state.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

AllotmentSide side_of(const BudgetAccount& account) {
  const BudgetStatus& status = account.status;
  return {status.away, status.budget.soft, true, account.pool().value};
}

}  // namespace

void BudgetState::allotted(BudgetAccount& account, std::uint16_t shard) {
  touch(account);
  account.stale_allotments.insert(shard);
  account.status.allotted = {allotted_of(account.allotments, account.status.away)};
}

std::optional<LedgerError> BudgetState::grant(const proto::AllotmentGranted& body,
                                              std::uint64_t index) {
  BudgetAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_budget;
  const std::optional<LedgerError> error =
      take_grant(account->allotments, side_of(*account), body, index);
  if (!error) allotted(*account, body.shard);
  return error;
}

std::optional<LedgerError> BudgetState::take_back(const proto::AllotmentReturned& body) {
  BudgetAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_budget;
  const std::optional<LedgerError> error =
      take_return(account->allotments, side_of(*account), body);
  if (!error) allotted(*account, body.shard);
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
  for (const std::uint16_t shard : account.stale_allotments) {
    const AllotmentRow allotment{false, account.status.budget.id, shard, account.allotments.at(shard)};
    row_.clear();
    encode(row_, allotment);
    changes.put(Table::meta, allotment_key(allotment), row_);
  }
  account.stale_allotments.clear();
}

}  // namespace outlast::storage
