// What people are told of what a spend breaker did (docs/breakers.md).
#pragma once

#include <string>

#include "actors/breaker_entries.hpp"
#include "actors/spend_notifier.hpp"
#include "gateway/spend_config.hpp"

namespace outlast::actors {

// The same for the same entry, whoever tells it and however often, but for the node's name. `link`: to the breaker.
SpendNotice spend_notice(const BreakerEvent& event, const gateway::SpendConfig& config, const std::string& link);

}  // namespace outlast::actors
