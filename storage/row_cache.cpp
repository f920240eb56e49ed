#include "storage/row_cache.hpp"

#include <algorithm>
#include <functional>

namespace outlast::storage {
namespace {

std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 32;
}

Failure corrupt_row(std::string_view what) {
  return fail(LedgerError::corrupt,
              "a row of " + std::string(what) + " cannot be read; restore the data from a copy");
}

}  // namespace

std::size_t RowCache::NamesHash::operator()(const Names& names) const noexcept {
  std::uint64_t hash = 0;
  for (const std::string_view name : names) hash = mix(hash, std::hash<std::string_view>()(name));
  return hash;
}

RowCache::Payer& RowCache::payer_of(const Reservation& reservation) {
  const TenantPath& tenant = reservation.tenant;
  const auto at = payers_.find(
      {tenant.organisation, tenant.team, tenant.user, reservation.key_id, reservation.route});
  if (at != payers_.end()) return *at->second;
  auto payer = std::make_unique<Payer>(Payer{tenant, reservation.key_id, reservation.route});
  const Names names{payer->tenant.organisation, payer->tenant.team, payer->tenant.user,
                    payer->key_id, payer->route};
  return *payers_.emplace(names, std::move(payer)).first->second;
}

RowCache::Leg& RowCache::leg_of(const AttemptLine& attempt) {
  const auto at = legs_.find({attempt.deployment, attempt.provider, attempt.model, {}, {}});
  if (at != legs_.end()) return *at->second;
  auto leg = std::make_unique<Leg>(Leg{attempt.deployment, attempt.provider, attempt.model});
  const Names names{leg->deployment, leg->provider, leg->model, {}, {}};
  return *legs_.emplace(names, std::move(leg)).first->second;
}

Result<RowCache::Balance*> RowCache::balance(Balance*& cached, std::string key) {
  const auto at = balances_.find(key);
  if (at == balances_.end()) {
    auto loaded = std::make_unique<Balance>(Balance{std::move(key), {}});
    const Result<bool> found = view_.get(Table::meta, loaded->key, scratch_);
    if (!found) return fail(found.error());
    if (*found && !decode(scratch_, loaded->row)) return corrupt_row("a balance");
    cached = loaded.get();
    balances_.emplace(cached->key, std::move(loaded));
  } else {
    cached = at->second.get();
  }
  return cached;
}

Result<RowCache::Balance*> RowCache::changed_balance(Payer& payer) {
  if (payer.balance == nullptr) {
    const Result<Balance*> loaded = balance(payer.balance, tenant_balance_key(payer.tenant));
    if (!loaded) return loaded;
  }
  if (!payer.balance->dirty) {
    payer.balance->dirty = true;
    dirty_balances_.push_back(payer.balance);
  }
  return payer.balance;
}

Result<void> RowCache::hold(Payer& payer, PicoUsd change) {
  const Result<Balance*> tenant = changed_balance(payer);
  if (!tenant) return fail(tenant.error());
  (*tenant)->row.held += change;
  return {};
}

Result<void> RowCache::charge(Payer& payer, Leg& leg, PicoUsd cost, PicoUsd on_demand) {
  if (cost.value == 0) return {};
  const Result<Balance*> tenant = changed_balance(payer);
  if (!tenant) return fail(tenant.error());
  (*tenant)->row.used += cost;
  if (on_demand.value == 0) return {};
  if (leg.balance == nullptr) {
    const Result<Balance*> loaded = balance(leg.balance, provider_balance_key(leg.provider));
    if (!loaded) return fail(loaded.error());
  }
  if (!leg.balance->dirty) {
    leg.balance->dirty = true;
    dirty_balances_.push_back(leg.balance);
  }
  leg.balance->row.used += on_demand;
  return {};
}

Result<void> RowCache::overrun(Payer& payer, PicoUsd overrun) {
  const Result<Balance*> tenant = changed_balance(payer);
  if (!tenant) return fail(tenant.error());
  (*tenant)->row.overrun += overrun;
  return {};
}

Result<std::span<UsageTotals* const>> RowCache::rollups(std::int64_t time_ms, const Payer& payer,
                                                        const Leg* leg, std::uint8_t status,
                                                        const UsageLabels* labels) {
  RollupKey names;
  names.organisation = payer.tenant.organisation;
  names.team = payer.tenant.team;
  names.user = payer.tenant.user;
  names.key_id = payer.key_id;
  names.route = payer.route;
  if (leg != nullptr) {
    names.model = leg->model;
    names.provider = leg->provider;
    names.deployment = leg->deployment;
  }
  names.status = status;
  return usage_.rows(time_ms, {&payer, leg, status}, names, labels);
}

void RowCache::copy_changed(TableChanges& changes) {
  for (const Balance* balance : dirty_balances_) {
    scratch_.clear();
    encode(scratch_, balance->row);
    changes.put(Table::meta, balance->key, scratch_);
  }
  usage_.copy_changed(changes);
}

void RowCache::collect(TableChanges& changes) {
  copy_changed(changes);
  for (Balance* balance : dirty_balances_) balance->dirty = false;
  dirty_balances_.clear();
  usage_.clear_changed();
}

void RowCache::trim() {
  if (!dirty_balances_.empty() || usage_.dirty()) return;
  if (usage_.size() > rows_max) usage_.clear();
  if (payers_.size() <= rows_max && legs_.size() <= rows_max && balances_.size() <= rows_max)
    return;
  usage_.clear();
  legs_.clear();
  balances_.clear();
  std::erase_if(payers_, [](const auto& entry) { return entry.second->open == 0; });
  for (auto& [names, payer] : payers_) payer->balance = nullptr;
}

}  // namespace outlast::storage
