// The accounts of the double entry, as a report shows them.
#pragma once

#include <string>
#include <vector>

#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/money.hpp"
#include "core/result.hpp"
#include "storage/log.hpp"

namespace outlast::storage {

class LedgerState;

// Debits are positive, credits negative. Names: docs/ledger.md, "Accounts".
struct AccountBalance {
  std::string name;
  PicoUsd balance;
  bool operator==(const AccountBalance&) const = default;
};

// Where budgets and commitments stand, by id.
struct MoneyStatus {
  std::vector<BudgetStatus> budgets;
  std::vector<CommitmentStatus> commitments;
  PicoUsd reserved;  // by all open reservations
};

MoneyStatus money_of(const LedgerState& state);

// Every account, by name, of balances and money of one moment; the sum is zero unless the ledger is
// wrong. `balances` shows rows as of its head. Errors: io, corrupt.
Result<std::vector<AccountBalance>> accounts_of(const LedgerView& balances,
                                                const MoneyStatus& money);

}  // namespace outlast::storage
