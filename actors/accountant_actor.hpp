#pragma once

#include <memory>

#include "actors/interfaces.hpp"
#include "core/clock.hpp"
#include "core/crypto.hpp"
#include "storage/ledger_store.hpp"

namespace outlast::actors {

struct AccountantDependencies {
  storage::LedgerStore& ledger;  // outlives the actor
  const Clock& clock;
  std::shared_ptr<const HmacSha256> key_hasher;
  Router router;
};

// Spawn detached: its handlers wait for the disk.
Accountant::behavior_type accountant_actor(Accountant::pointer self, AccountantDependencies dependencies);

}  // namespace outlast::actors
