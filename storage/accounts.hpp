// The accounts of the double entry, as a report shows them.
#pragma once

#include <string>

#include "core/money.hpp"

namespace outlast::storage {

// Debits are positive, credits negative. Names: docs/ledger.md, "Accounts".
struct AccountBalance {
  std::string name;
  PicoUsd balance;
  bool operator==(const AccountBalance&) const = default;
};

}  // namespace outlast::storage
