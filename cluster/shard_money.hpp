// What of the control log's budgets and commitments a ledger shard keeps in its own log, and where each is at home.
//
// Budgets of organisations, teams, users and keys are in the shard of their organisation alone. Those of tags, models and
// providers, and commitments, concern requests of all shards: one is their home, which allots parts to the others
// (storage/allotment.hpp), and there they are away.
#pragma once

#include <string_view>
#include <vector>

#include "cluster/control_view.hpp"
#include "cluster/shard_id.hpp"
#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/scope.hpp"

namespace outlast::cluster {

struct ShardBudget {
  Budget budget;
  bool away = false;
  bool operator==(const ShardBudget&) const = default;
};
struct ShardCommitment {
  Commitment commitment;
  bool away = false;
  bool ended = false;
  bool operator==(const ShardCommitment&) const = default;
};
struct ShardMoney {
  std::vector<ShardBudget> budgets;
  std::vector<ShardCommitment> commitments;
};

// Whether a budget of that scope concerns requests of all shards.
bool crosses_shards(const Scope& scope);
// The home of what does.
ShardId home_of_crossing(const Scope& scope, ShardId shards);
ShardId home_of_commitment(std::string_view id, ShardId shards);

// By shard; every shard has an element. A key's budget whose key the view does not know is in none.
std::vector<ShardMoney> money_of_shards(const ControlView& view, ShardId shards);

}  // namespace outlast::cluster
