#include "storage/accounts.hpp"

#include <algorithm>
#include <map>

#include "storage/ledger_state.hpp"
#include "storage/rows.hpp"

namespace outlast::storage {
namespace {

class AccountList {
 public:
  void add(const std::string& name, PicoUsd balance) { balances_[name] += balance; }
  void add(const std::string& kind, std::string_view name, PicoUsd balance) {
    add(kind + ":" + std::string(name), balance);
  }
  [[nodiscard]] std::vector<AccountBalance> all() const {
    std::vector<AccountBalance> list;
    list.reserve(balances_.size());
    for (const auto& [name, balance] : balances_) list.push_back({name, balance});
    return list;
  }

 private:
  std::map<std::string, PicoUsd> balances_;
};

PicoUsd credit(PicoUsd amount) { return {-amount.value}; }

// A row of a tenant or a provider; its key goes on with its kind and name.
bool add_balance(AccountList& list, std::string_view key, std::string_view value) {
  BalanceRow row;
  if (key.size() < 2 || !decode(value, row)) return false;
  const std::string_view name = key.substr(2);
  if (key[1] == 'p') {
    list.add("payable", name, credit(row.used));
    return true;
  }
  list.add("used", name, row.used - row.overrun);
  list.add("overrun", name, row.overrun);
  list.add("held", name, row.held);
  return true;
}

void add_budget(AccountList& list, const BudgetStatus& status) {
  const std::string& id = status.budget.id;
  if (!status.away) list.add("budget_limit", id, credit(status.budget.amount));
  if (status.allotted.value != 0) list.add("budget_allotted", id, credit(status.allotted));
  list.add("budget_used", id, status.used);
  list.add("budget_held", id, status.held);
  list.add("budget_sliced", id, status.sliced);
  list.add("budget_available", id, status.left() - status.sliced);
}

void add_commitment(AccountList& list, const CommitmentStatus& status) {
  const std::string& provider = status.commitment.provider;
  if (!status.away) {
    list.add("purchased", provider, credit(status.commitment.price));
    list.add("prepaid", provider, status.commitment.price);
  }
  list.add("amortised", provider, credit(status.amortised));
  list.add("savings", credit(status.list_cost - status.amortised));
}

}  // namespace

MoneyStatus money_of(const LedgerState& state) {
  MoneyStatus money;
  money.budgets.reserve(state.budgets().size());
  for (const auto& [id, account] : state.budgets().all()) money.budgets.push_back(account->status);
  money.commitments.reserve(state.commitments().size());
  for (const auto& [id, account] : state.commitments().all())
    money.commitments.push_back(account->status);
  money.reserved = state.open_amount();
  return money;
}

Result<std::vector<AccountBalance>> accounts_of(const LedgerView& balances,
                                                const MoneyStatus& money) {
  AccountList list;
  // Of no division does a part remain that no other account takes.
  list.add("rounding", {});
  list.add("savings", {});
  list.add("reserved", credit(money.reserved));
  bool readable = true;
  const std::string end(1, balance_prefix + 1);
  const Result<void> scanned =
      balances.scan(Table::meta, std::string(1, balance_prefix), end,
                    [&list, &readable](std::string_view key, std::string_view value) {
                      readable = add_balance(list, key, value);
                      return readable;
                    });
  if (!scanned) return fail(scanned.error());
  if (!readable)
    return fail(LedgerError::corrupt, "a balance cannot be read; see `outlast ledger verify`");
  for (const BudgetStatus& status : money.budgets) add_budget(list, status);
  for (const CommitmentStatus& status : money.commitments) add_commitment(list, status);
  return list.all();
}

}  // namespace outlast::storage
