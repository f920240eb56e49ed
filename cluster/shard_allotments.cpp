// The part of ShardOwner that has to do with what concerns all shards: what it mirrors from the control log, and what it says to
// the owners of other shards.
#include <set>
#include <utility>

#include "cluster/shard_owner.hpp"

namespace outlast::cluster {

using storage::Applied;
using storage::BudgetAccount;
using storage::CommitmentAccount;
using storage::Outcome;

Result<void> ShardOwner::set_money(const ShardMoney& money) {
  if (Result<void> set = set_budgets(money.budgets); !set) return set;
  return set_commitments(money.commitments);
}

Result<void> ShardOwner::set_budgets(std::span<const ShardBudget> budgets) {
  std::set<std::string, std::less<>> wanted;
  for (const auto& [budget, away] : budgets) {
    wanted.insert(budget.id);
    const BudgetAccount* account = writer_.state().budgets().find(budget.id);
    if (account != nullptr && account->status.budget == budget && account->status.away == away) continue;
    // Removed and made anew with another scope, before this shard looked.
    if (account != nullptr && (account->status.budget.scope != budget.scope || account->status.away != away)) {
      if (Result<void> removed = remove_budget(budget.id); !removed) return removed;
      account = nullptr;
    }
    const bool is_new = account == nullptr;
    const Result<Applied> set = writer_.add(proto::BudgetSet{budget, "control", 0, 0, away});
    if (!set) return fail(set.error());
    if (is_new && away) parts_.introduce({budget.id, false});
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  std::vector<std::string> gone;
  for (const auto& [id, account] : writer_.state().budgets().all()) {
    if (!wanted.contains(id)) gone.push_back(id);
  }
  for (const std::string& id : gone) {
    if (Result<void> removed = remove_budget(id); !removed) return removed;
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  return {};
}

Result<void> ShardOwner::remove_budget(const std::string& id) {
  const Result<Applied> removed = writer_.add(proto::BudgetRemoved{id, "control"});
  if (!removed) return fail(removed.error());
  desk_.forget(id);
  allotments_.forget({id, false});
  parts_.forget({id, false});
  return {};
}

// Ends first: what is new may overlap what has ended.
Result<void> ShardOwner::set_commitments(std::span<const ShardCommitment> commitments) {
  for (const auto& [commitment, away, ended] : commitments) {
    const CommitmentAccount* const account = writer_.state().commitments().find(commitment.id);
    if (!ended || account == nullptr || account->status.ended) continue;
    const Result<Applied> over = writer_.add(proto::CommitmentEnded{commitment.id, "control"});
    if (!over) return fail(over.error());
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  for (const auto& [commitment, away, ended] : commitments) {
    if (ended || writer_.state().commitments().find(commitment.id) != nullptr) continue;
    const Result<Applied> added = writer_.add(proto::CommitmentAdded{commitment, "control", away});
    if (!added) return fail(added.error());
    if (added->outcome == Outcome::refused) continue;  // one that only this shard of an old cluster has overlaps it
    if (away) parts_.introduce({commitment.id, true});
    else if (Result<void> shared = allotments_.share(commitment.id); !shared) return shared;
    if (Result<void> committed = commit_if_large(); !committed) return committed;
  }
  return {};
}

Result<void> ShardOwner::deal_allotments() {
  if (options_.shards < 2) return {};
  if (Result<void> kept = parts_.deal([this](const std::string& budget) { return rounds_.contains(budget); }); !kept) return kept;
  return allotments_.deal([this](const std::string& budget) { return ask_holders(budget); });
}

void ShardOwner::tell_allotments() {
  std::vector<SendToShard> messages;
  allotments_.tell(messages);
  parts_.tell(messages);
  for (SendToShard& message : messages) effects_.emplace_back(std::move(message));
}

}  // namespace outlast::cluster
