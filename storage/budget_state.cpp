#include "storage/budget_state.hpp"

#include <algorithm>
#include <limits>
#include <tuple>

#include "core/calendar.hpp"
#include "core/check.hpp"
#include "storage/money_rows.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

constexpr PicoUsd budget_amount_max{static_cast<__int128>(1'000'000'000'000'000'000) *
                                    1'000'000'000'000};

// All but the time zone, which a replay does not look up.
bool well_formed(const Budget& budget) {
  const Result<Scope> scope = Scope::parse(budget.scope.to_string());
  return !budget.id.empty() && budget.id.size() <= budget_id_bytes_max &&
         budget.name.size() <= budget_name_bytes_max && scope && *scope == budget.scope &&
         budget.amount.value >= 0 && budget.amount <= budget_amount_max &&
         !budget.time_zone.empty() && budget.time_zone.size() <= budget_id_bytes_max;
}

bool holds(std::int64_t start_ms, std::int64_t end_ms, std::int64_t time_ms) {
  return start_ms <= time_ms && time_ms < end_ms;
}

// The slice that pays for the whole of a reservation; null when none does.
const SliceAccount* paying_slice(const BudgetAccount& account, const BudgetState::Demand& demand) {
  if (!demand.from_slices || account.status.budget.soft) return nullptr;
  const SliceAccount* const slice = BudgetState::slice_of(account, demand.holder);
  return slice != nullptr && slice->left >= demand.amount ? slice : nullptr;
}

bool is_short(const BudgetAccount& account, const BudgetState::Demand& demand) {
  if (account.status.budget.soft || account.removed || demand.amount.value <= 0) return false;
  return paying_slice(account, demand) == nullptr && demand.amount > account.pool();
}

bool pays_for(const Budget& budget, const AttemptLine& attempt) {
  if (budget.scope.kind == ScopeKind::model) return budget.scope.value == attempt.model;
  if (budget.scope.kind == ScopeKind::provider) return budget.scope.value == attempt.provider;
  return true;
}

}  // namespace

Result<void> check_budget(const Budget& budget) {
  if (budget.id.empty() || budget.id.size() > budget_id_bytes_max)
    return invalid("a budget's id has 1 to 64 bytes");
  if (budget.name.size() > budget_name_bytes_max)
    return invalid("a budget's name has at most 128 bytes");
  const Result<Scope> scope = Scope::parse(budget.scope.to_string());
  if (!scope) return invalid(scope.error().message);
  if (budget.amount.value < 0 || budget.amount > budget_amount_max)
    return invalid("a budget's amount is from 0 to 10^18 US dollars");
  const Result<Period> period = period_at(budget.period, budget.time_zone, 0);
  if (!period) return invalid(period.error().message);
  if (!well_formed(budget)) return invalid("the budget is not well formed");
  return {};
}

void BudgetState::touch(BudgetAccount& account) {
  if (!account.dirty) {
    account.dirty = true;
    dirty_.push_back(&account);
  }
  if (!account.touched) {
    account.touched = true;
    touched_.push_back(&account);
  }
}

void BudgetState::clear_touched() {
  for (BudgetAccount* account : touched_) account->touched = false;
  touched_.clear();
}

void BudgetState::index(BudgetAccount& account) {
  by_scope_.add(account.status.budget.scope, &account);
  if (account.status.budget.scope.kind == ScopeKind::tag) ++tag_budgets_;
  ++version_;
}

void BudgetState::set_period(BudgetAccount& account, std::int64_t start_ms, std::int64_t end_ms) {
  if (account.status.period_end_ms != 0) ends_.erase({account.status.period_end_ms, &account});
  account.status.period_start_ms = start_ms;
  account.status.period_end_ms = end_ms;
  if (end_ms != 0) ends_.emplace(end_ms, &account);
}

std::optional<LedgerError> BudgetState::set(const proto::BudgetSet& body, std::int64_t time_ms) {
  const Budget& budget = body.budget;
  const bool endless = budget.period == BudgetPeriod::total;
  const bool in_period = endless ? body.period_start_ms == 0 && body.period_end_ms == 0
                                 : holds(body.period_start_ms, body.period_end_ms, time_ms);
  if (!well_formed(budget) || !in_period) return LedgerError::invalid;
  const auto at = budgets_.find(budget.id);
  if (at == budgets_.end()) {
    if (budgets_.size() >= budgets_max) return LedgerError::invalid;
    auto account = std::make_unique<BudgetAccount>();
    account->status.budget = budget;
    account->status.away = body.away;
    set_period(*account, body.period_start_ms, body.period_end_ms);
    index(*account);
    touch(*account);
    budgets_.emplace(budget.id, std::move(account));
    return std::nullopt;
  }
  BudgetAccount& account = *at->second;
  if (account.status.away != body.away) return LedgerError::invalid;
  if (account.status.budget == budget) return LedgerError::duplicate;
  if (account.status.budget.scope != budget.scope) return LedgerError::invalid;
  touch(account);
  account.status.budget = budget;
  set_period(account, body.period_start_ms, body.period_end_ms);
  if (budget.soft) end_slices(account);  // nobody deals out slices of it any more
  ++version_;
  return std::nullopt;
}

std::optional<LedgerError> BudgetState::remove(const proto::BudgetRemoved& body) {
  const auto at = budgets_.find(body.id);
  if (at == budgets_.end()) return LedgerError::unknown_budget;
  BudgetAccount& account = *at->second;
  const Scope& scope = account.status.budget.scope;
  by_scope_.remove(scope, &account);
  if (scope.kind == ScopeKind::tag) --tag_budgets_;
  set_period(account, 0, 0);
  end_slices(account);
  erase_allotments(account);
  std::erase(dirty_, &account);
  std::erase(touched_, &account);
  account.dirty = account.touched = false;
  account.removed = true;
  erased_.push_back(budget_key(body.id));
  ++version_;
  if (account.open > 0) removed_.push_back(std::move(at->second));
  budgets_.erase(at);
  return std::nullopt;
}

std::optional<LedgerError> BudgetState::roll(const proto::BudgetRolled& body,
                                             std::int64_t time_ms) {
  BudgetAccount* const account = find(body.id);
  if (account == nullptr) return LedgerError::unknown_budget;
  const std::int64_t end_ms = account->status.period_end_ms;
  if (end_ms == 0 || body.period_start_ms < end_ms ||
      !holds(body.period_start_ms, body.period_end_ms, time_ms)) {
    return LedgerError::invalid;
  }
  touch(*account);
  account->status.used = {};
  set_period(*account, body.period_start_ms, body.period_end_ms);
  return std::nullopt;
}

void BudgetState::match(const SpendPath& path, std::vector<BudgetAccount*>& found) const {
  by_scope_.visit(path, [&found](BudgetAccount* account) { found.push_back(account); });
  // Not in the order in which they were set, which a restart does not know.
  std::sort(found.begin(), found.end(), [](const BudgetAccount* a, const BudgetAccount* b) {
    const Budget& left = a->status.budget;
    const Budget& right = b->status.budget;
    return std::tie(left.scope.kind, left.id) < std::tie(right.scope.kind, right.id);
  });
}

BudgetAccount* BudgetState::short_of(std::span<BudgetAccount* const> budgets,
                                     const Demand& demand) {
  for (BudgetAccount* account : budgets) {
    if (is_short(*account, demand)) return account;
  }
  return nullptr;
}

BudgetAccount* BudgetState::short_of(std::span<const BudgetHold> holds, const Demand& demand) {
  for (const BudgetHold& hold : holds) {
    if (is_short(*hold.budget, demand)) return hold.budget;
  }
  return nullptr;
}

BudgetHold BudgetState::hold(BudgetAccount& budget, const Demand& demand) {
  ++budget.open;
  BudgetHold hold{&budget, {}, {}, 0};
  hold_more(hold, demand);
  return hold;
}

void BudgetState::hold_more(BudgetHold& hold, const Demand& demand) {
  BudgetAccount& account = *hold.budget;
  if (account.removed) return;
  touch(account);
  account.status.held += demand.amount;
  account.largest = std::max(account.largest, demand.amount);
  hold.from_slice = hold.live_slice(demand.holder);
  const SliceAccount* const slice = slice_of(account, demand.holder);
  hold.slice = slice == nullptr ? 0 : slice->opened;
  if (paying_slice(account, demand) == nullptr) return;
  move(account, demand.holder, {-demand.amount.value});
  hold.from_slice += demand.amount;
}

void BudgetState::charge(BudgetHold& hold, PicoUsd reserved, const AttemptLine& attempt) {
  BudgetAccount& account = *hold.budget;
  if (account.removed || attempt.cost.value == 0 || !pays_for(account.status.budget, attempt))
    return;
  touch(account);
  const PicoUsd covered = std::min(attempt.cost, reserved - hold.charged);
  hold.charged += covered;
  account.status.held -= covered;
  account.status.used += account.status.budget.soft ? attempt.cost : covered;
}

void BudgetState::release(BudgetHold& hold, PicoUsd reserved, const Incarnation& holder) {
  BudgetAccount& account = *hold.budget;
  check(account.open > 0, "a budget knows how many reservations hold of it");
  --account.open;
  if (account.removed) return drop(account);
  const PicoUsd left = reserved - hold.charged;
  touch(account);
  account.status.held -= left;
  // What it cost is paid from the slice first, as the lane does that gives the rest back to it.
  const PicoUsd live = hold.live_slice(holder);
  const PicoUsd unspent = live - std::min(live, hold.charged);
  if (unspent.value == 0) return;
  move(account, holder, unspent);
  if (holder.is_nil()) account.returned += static_cast<std::uint64_t>(unspent.value);
}

void BudgetState::drop(BudgetAccount& account) {
  if (account.open > 0) return;
  std::erase_if(removed_, [&account](const auto& removed) { return removed.get() == &account; });
}

void BudgetState::restore(BudgetStatus status) {
  auto account = std::make_unique<BudgetAccount>();
  const std::int64_t start_ms = status.period_start_ms;
  const std::int64_t end_ms = std::exchange(status.period_end_ms, 0);
  account->status = std::move(status);
  account->own.left = account->status.sliced;
  set_period(*account, start_ms, end_ms);
  index(*account);
  std::string id = account->status.budget.id;
  budgets_.insert_or_assign(std::move(id), std::move(account));
}

BudgetAccount* BudgetState::restore_hold(std::string_view id) {
  BudgetAccount* const account = find(id);
  if (account != nullptr) ++account->open;
  return account;
}

void BudgetState::collect(TableChanges& changes) {
  for (const std::string& key : erased_) changes.erase(Table::meta, key);
  erased_.clear();
  for (BudgetAccount* account : dirty_) {
    row_.clear();
    encode(row_, account->status);
    changes.put(Table::meta, budget_key(account->status.budget.id), row_);
    collect_slices(*account, changes);
    collect_allotments(*account, changes);
    account->dirty = false;
  }
  dirty_.clear();
}

void BudgetState::copy_rows(TableChanges& changes) const {
  std::string row;
  for (const auto& [id, account] : budgets_) {
    row.clear();
    encode(row, account->status);
    changes.put(Table::meta, budget_key(id), row);
    for (const auto& [holder, slice] : account->slices) {
      row.clear();
      encode(row, row_of(holder, slice));
      changes.put(Table::meta, slice_key(holder, id), row);
    }
    for (const auto& [shard, allotment] : account->allotments) {
      const AllotmentRow whole{false, id, shard, allotment};
      row.clear();
      encode(row, whole);
      changes.put(Table::meta, allotment_key(whole), row);
    }
  }
}

BudgetAccount* BudgetState::find(std::string_view id) const {
  const auto at = budgets_.find(id);
  return at == budgets_.end() ? nullptr : at->second.get();
}

std::int64_t BudgetState::next_end_ms() const {
  return ends_.empty() ? std::numeric_limits<std::int64_t>::max() : ends_.begin()->first;
}

std::vector<const BudgetAccount*> BudgetState::ended_by(std::int64_t time_ms) const {
  std::vector<const BudgetAccount*> ended;
  for (const auto& [end_ms, account] : ends_) {
    if (end_ms > time_ms) break;
    ended.push_back(account);
  }
  std::sort(ended.begin(), ended.end(), [](const BudgetAccount* a, const BudgetAccount* b) {
    return a->status.budget.id < b->status.budget.id;
  });
  return ended;
}

}  // namespace outlast::storage
