#include "cluster/control_view.hpp"

#include <cstdlib>
#include <utility>
#include <variant>

#include "core/log.hpp"
#include "storage/ledger_queries.hpp"

namespace outlast::cluster {
namespace {

constexpr int exit_status_doubt = 70;

ControlChanges changes_of(const std::vector<storage::StoredEntry>& entries) {
  ControlChanges changes;
  for (const storage::StoredEntry& entry : entries) {
    using storage::EntryKind;
    switch (entry.kind()) {
      case EntryKind::key_created:
      case EntryKind::key_revoked: changes.keys = true; break;
      case EntryKind::budget_set:
      case EntryKind::budget_removed: changes.budgets = true; break;
      case EntryKind::commitment_added:
      case EntryKind::commitment_ended: changes.commitments = true; break;
      case EntryKind::node_enrolled:
      case EntryKind::node_changed:
      case EntryKind::join_token_made: changes.members = true; break;
      case EntryKind::setting_set: changes.settings = true; break;
      case EntryKind::breaker_tripped: changes.breakers.push_back({std::get<BreakerTripped>(entry.body), entry.header.time_ms}); break;
      case EntryKind::breaker_reset: changes.breakers.push_back({std::get<BreakerReset>(entry.body), entry.header.time_ms}); break;
      case EntryKind::breaker_rule: changes.breakers.push_back({std::get<BreakerRuleChange>(entry.body), entry.header.time_ms}); break;
      default: break;
    }
  }
  return changes;
}

template <class T>
void read_again(bool changed, Result<T> read, T& into) {
  if (!changed) return;
  if (!read) {
    log::error("control_unreadable", {{"reason", read.error().message}, {"effect", "exit 70"}});
    std::_Exit(exit_status_doubt);
  }
  into = std::move(*read);
}

}  // namespace

void ControlBoard::listen(Listener listener) {
  const std::lock_guard call(calls_);  // first, so that no newer view comes before this one
  std::shared_ptr<const ControlView> view;
  {
    const std::lock_guard lock(mutex_);
    listeners_.push_back(listener);
    view = view_;
  }
  listener(view, ControlChanges{true, true, true, true, true, {}});
}

void ControlBoard::forget() {
  const std::lock_guard call(calls_);
  const std::lock_guard lock(mutex_);
  if (!listeners_.empty()) listeners_.pop_back();
}

void ControlBoard::applied(const storage::LedgerState& state, const storage::LedgerView& view,
                           const std::vector<storage::StoredEntry>& entries) {
  ControlChanges changes = changes_of(entries);
  const bool all = entries.empty();  // the replica was just opened
  if (all) changes = ControlChanges{true, true, true, true, true, {}};
  auto next = std::make_shared<ControlView>(*get());
  if (!all) next->next_index = entries.back().header.index + 1;
  if (changes.keys) {
    next->keys.clear();
    for (const auto& [id, key] : state.keys()) next->keys.push_back(key);
  }
  if (changes.budgets || changes.commitments) {
    const storage::MoneyStatus money = storage::money_of(state);
    next->budgets.clear();
    next->commitments.clear();
    for (const BudgetStatus& status : money.budgets) next->budgets.push_back(status.budget);
    for (const CommitmentStatus& status : money.commitments) next->commitments.push_back({status.commitment, status.ended});
  }
  read_again(all || !changes.breakers.empty(), storage::breakers_of(view), next->breakers);
  read_again(changes.members || changes.settings, storage::members_of(view), next->members);

  const std::lock_guard call(calls_);
  std::vector<Listener> listeners;
  {
    const std::lock_guard lock(mutex_);
    view_ = next;
    listeners = listeners_;
  }
  for (const Listener& listener : listeners) listener(next, changes);
}

std::shared_ptr<const ControlView> ControlBoard::get() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

}  // namespace outlast::cluster
