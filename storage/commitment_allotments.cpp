// The part of CommitmentState that has to do with allotments: what a commitment's home gives to the ledgers of other
// shards.
#include <utility>

#include "storage/commitment_state.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

AllotmentSide side_of(const CommitmentAccount& account) {
  return {account.status.away, false, false, account.unheld()};
}

}  // namespace

void CommitmentState::allotted(CommitmentAccount& account) {
  touch(account);
  account.stale_allotments = true;
  account.status.allotted = allotted_of(account.allotments, account.status.away);
}

std::optional<LedgerError> CommitmentState::grant(const proto::AllotmentGranted& body,
                                                  std::uint64_t index) {
  CommitmentAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_commitment;
  const std::optional<LedgerError> error =
      take_grant(account->allotments, side_of(*account), body, index);
  if (!error) allotted(*account);
  return error;
}

std::optional<LedgerError> CommitmentState::take_back(const proto::AllotmentReturned& body) {
  CommitmentAccount* const account = find(body.subject);
  if (account == nullptr) return LedgerError::unknown_commitment;
  const std::optional<LedgerError> error =
      take_return(account->allotments, side_of(*account), body);
  if (!error) allotted(*account);
  return error;
}

bool CommitmentState::restore(const AllotmentRow& row) {
  CommitmentAccount* const account = find(row.subject);
  if (account == nullptr) return false;
  CommitmentStatus& status = account->status;
  if (!restore_allotment(account->allotments, status.away, row.shard, row.allotment)) return false;
  status.allotted = allotted_of(account->allotments, status.away);
  return true;
}

void CommitmentState::collect_allotments(CommitmentAccount& account, TableChanges& changes) {
  if (!std::exchange(account.stale_allotments, false)) return;
  for (const auto& [shard, allotment] : account.allotments) {
    const AllotmentRow whole{true, account.status.commitment.id, shard, allotment};
    row_.clear();
    encode(row_, whole);
    changes.put(Table::meta, allotment_key(whole), row_);
  }
}

}  // namespace outlast::storage
