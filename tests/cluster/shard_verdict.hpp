// What has to hold of a shard once everything between its holders and its owner has come to rest. The first rule, in
// words, that does not; empty while all do.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/budget.hpp"
#include "tests/cluster/shard_holder.hpp"
#include "tests/cluster/shard_world.hpp"

namespace outlast::cluster::simulation {

// What callers were told stands in the ledger; of a holder whose disk was lost, it is covered by what counts as spent.
inline std::string verdict_of_promises(Auditor& auditor, const std::vector<Budget>& budgets, const HolderNode& node) {
  std::string wrong;
  std::map<Incarnation, PicoUsd> exposed;
  std::map<Incarnation, PicoUsd> entered;
  for (const auto& [id, promise] : node.promises) {
    const auto entry = auditor.requests.find(id);
    const bool stands = entry != auditor.requests.end();
    if (node.wiped.contains(promise.holder)) {
      if (promise.durable) exposed[promise.holder] += promise.settled ? promise.cost : promise.reserved;
      if (stands) entered[promise.holder] += entry->second.charged;
      continue;
    }
    if (promise.durable && !stands) wrong = "a durable reservation is lost";
    if (!stands) continue;
    if (promise.end_durable && entry->second.charged != promise.cost) wrong = "a request is charged something else";
    if (!std::includes(entry->second.attempts.begin(), entry->second.attempts.end(), promise.attempts.begin(),
                       promise.attempts.end())) {
      wrong = "a durable attempt is lost";
    }
    if (!std::includes(entry->second.extensions.begin(), entry->second.extensions.end(), promise.extensions.begin(),
                       promise.extensions.end())) {
      wrong = "a durable extension is lost";
    }
  }
  for (const auto& [holder, amount] : exposed) {
    for (const Budget& budget : budgets) {
      const auto spent = auditor.presumed_spent.find(holder);
      const PicoUsd covered =
          entered[holder] + (spent == auditor.presumed_spent.end() ? PicoUsd{} : spent->second[budget.id]);
      if (amount > covered) wrong = "a lost disk took money with it that is not presumed spent";
    }
  }
  return wrong;
}

inline std::string verdict_at_rest(Auditor& auditor, const std::vector<Budget>& budgets,
                                   const std::vector<const HolderNode*>& holders) {
  std::string wrong;
  if (auditor.writer().state().open_count() != 0) wrong = "a reservation stays open";
  for (const HolderNode* node : holders) {
    if (std::string lost = verdict_of_promises(auditor, budgets, *node); !lost.empty()) wrong = std::move(lost);
  }
  PicoUsd charged;
  for (const auto& [id, charges] : auditor.requests) {
    charged += charges.charged;
    if (charges.ends != 1) wrong = "a request has no end";
  }
  for (const Budget& budget : budgets) {
    const storage::BudgetAccount& account = *auditor.writer().state().budgets().find(budget.id);
    if (account.status.held.value != 0) wrong = "something is held of " + budget.id;
    // What was used in a period that has ended does not count any more; and which model what is in doubt went to, nobody knows.
    const bool counts_all = budget.period == BudgetPeriod::total && budget.scope.kind != ScopeKind::model;
    if (counts_all && account.status.used != charged + auditor.spent[budget.id]) wrong = "what is used of " + budget.id + " does not add up";
    PicoUsd sliced;
    for (const HolderNode* node : holders) {
      const auto* const slice = storage::BudgetState::slice_of(account, node->me());
      if (slice == nullptr) {
        if (node->keeper().left(budget.id).value != 0) wrong = "a slice of " + budget.id + " is not the ledger's";
        continue;
      }
      // All that a holder has not heard of is what it was granted meanwhile.
      const PicoUsd unseen = slice->granted - slice->returned - node->keeper().seen(budget.id);
      if (unseen.value < 0 || slice->left != node->keeper().left(budget.id) + unseen)
        wrong = "the slice of " + node->name + " is not that of the ledger";
      sliced += slice->left;
    }
    if (sliced != account.status.sliced) wrong = "somebody who is gone has a slice of " + budget.id;
  }
  return wrong;
}

}  // namespace outlast::cluster::simulation
