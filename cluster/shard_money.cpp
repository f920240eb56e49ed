#include "cluster/shard_money.hpp"

#include <map>
#include <string>

namespace outlast::cluster {

bool crosses_shards(const Scope& scope) {
  return scope.kind == ScopeKind::tag || scope.kind == ScopeKind::model || scope.kind == ScopeKind::provider;
}

ShardId home_of_crossing(const Scope& scope, ShardId shards) { return shard_of(scope.to_string(), shards); }

ShardId home_of_commitment(std::string_view id, ShardId shards) { return shard_of(id, shards); }

std::vector<ShardMoney> money_of_shards(const ControlView& view, ShardId shards) {
  std::map<std::string_view, std::string_view> organisations;
  for (const VirtualKey& key : view.keys) organisations.emplace(key.id, key.tenant.organisation);
  std::vector<ShardMoney> money(shards);
  for (const Budget& budget : view.budgets) {
    const Scope& scope = budget.scope;
    if (crosses_shards(scope)) {
      const ShardId home = home_of_crossing(scope, shards);
      for (ShardId shard = 0; shard < shards; ++shard) money[shard].budgets.push_back({budget, shard != home});
      continue;
    }
    std::string_view organisation = std::string_view(scope.value).substr(0, scope.value.find('/'));
    if (scope.kind == ScopeKind::key) {
      const auto key = organisations.find(scope.value);
      if (key == organisations.end()) continue;
      organisation = key->second;
    }
    money[shard_of(organisation, shards)].budgets.push_back({budget, false});
  }
  for (const CommitmentDefinition& definition : view.commitments) {
    const ShardId home = home_of_commitment(definition.commitment.id, shards);
    for (ShardId shard = 0; shard < shards; ++shard) {
      money[shard].commitments.push_back({definition.commitment, shard != home, definition.ended});
    }
  }
  return money;
}

}  // namespace outlast::cluster
