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

Failure invalid(std::string message) { return fail(LedgerError::invalid, std::move(message)); }

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

// The part of a reservation that its slice pays for.
PicoUsd slice_part(const BudgetAccount& account, PicoUsd amount, bool from_slices) {
  const BudgetStatus& status = account.status;
  return from_slices && !status.budget.soft && status.sliced >= amount ? amount : PicoUsd{};
}

bool is_short(const BudgetAccount& account, PicoUsd amount, bool from_slices) {
  if (account.status.budget.soft || account.removed) return false;
  const PicoUsd from_pool = amount - slice_part(account, amount, from_slices);
  return from_pool.value > 0 && from_pool > account.pool();
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
    set_period(*account, body.period_start_ms, body.period_end_ms);
    index(*account);
    touch(*account);
    budgets_.emplace(budget.id, std::move(account));
    return std::nullopt;
  }
  BudgetAccount& account = *at->second;
  if (account.status.budget == budget) return LedgerError::duplicate;
  if (account.status.budget.scope != budget.scope) return LedgerError::invalid;
  touch(account);
  account.status.budget = budget;
  set_period(account, body.period_start_ms, body.period_end_ms);
  if (budget.soft) end_slice(account);  // nobody deals out slices of it any more
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
  std::erase(dirty_, &account);
  std::erase(touched_, &account);
  account.dirty = account.touched = false;
  account.removed = true;
  erased_.push_back(body.id);
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

std::optional<LedgerError> BudgetState::grant(const proto::SliceGranted& body) {
  BudgetAccount* const account = find(body.budget);
  if (account == nullptr) return LedgerError::unknown_budget;
  if (account->status.budget.soft || body.amount.value <= 0 || body.amount > account->pool())
    return LedgerError::invalid;
  touch(*account);
  account->status.sliced += body.amount;
  return std::nullopt;
}

std::optional<LedgerError> BudgetState::take_back(const proto::SliceReturned& body) {
  BudgetAccount* const account = find(body.budget);
  if (account == nullptr) return LedgerError::unknown_budget;
  if (body.amount.value <= 0 || body.amount > account->status.sliced) return LedgerError::invalid;
  touch(*account);
  account->status.sliced -= body.amount;
  return std::nullopt;
}

void BudgetState::end_slice(BudgetAccount& account) {
  ++account.slice;
  if (account.status.sliced.value == 0) return;
  touch(account);
  account.status.sliced = {};
}

void BudgetState::fence() {
  for (const auto& [id, account] : budgets_) end_slice(*account);
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

BudgetAccount* BudgetState::short_of(std::span<BudgetAccount* const> budgets, PicoUsd amount,
                                     bool from_slices) {
  for (BudgetAccount* account : budgets) {
    if (is_short(*account, amount, from_slices)) return account;
  }
  return nullptr;
}

BudgetAccount* BudgetState::short_of(std::span<const BudgetHold> holds, PicoUsd amount,
                                     bool from_slices) {
  for (const BudgetHold& hold : holds) {
    if (is_short(*hold.budget, amount, from_slices)) return hold.budget;
  }
  return nullptr;
}

BudgetHold BudgetState::hold(BudgetAccount& budget, PicoUsd amount, bool from_slices) {
  ++budget.open;
  BudgetHold hold{&budget, {}, {}, budget.slice};
  hold_more(hold, amount, from_slices);
  return hold;
}

void BudgetState::hold_more(BudgetHold& hold, PicoUsd amount, bool from_slices) {
  BudgetAccount& account = *hold.budget;
  if (account.removed) return;
  touch(account);
  const PicoUsd part = slice_part(account, amount, from_slices);
  account.status.held += amount;
  account.status.sliced -= part;
  hold.from_slice = hold.live_slice() + part;
  hold.slice = account.slice;
  account.largest = std::max(account.largest, amount);
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

void BudgetState::release(BudgetHold& hold, PicoUsd reserved) {
  BudgetAccount& account = *hold.budget;
  check(account.open > 0, "a budget knows how many reservations hold of it");
  --account.open;
  if (account.removed) return drop(account);
  const PicoUsd left = reserved - hold.charged;
  touch(account);
  account.status.held -= left;
  // What it cost is paid from the slice first, as the lane does that gives the rest back to it.
  const PicoUsd unspent = hold.live_slice() - std::min(hold.live_slice(), hold.charged);
  if (unspent.value == 0) return;
  account.status.sliced += unspent;
  account.returned += static_cast<std::uint64_t>(unspent.value);
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
  for (const std::string& id : erased_) changes.erase(Table::meta, budget_key(id));
  erased_.clear();
  for (BudgetAccount* account : dirty_) {
    row_.clear();
    encode(row_, account->status);
    changes.put(Table::meta, budget_key(account->status.budget.id), row_);
    account->dirty = false;
  }
  dirty_.clear();
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
