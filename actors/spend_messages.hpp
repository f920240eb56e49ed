// What is said to and by the actor of spend breakers, as plain structs.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "actors/messages.hpp"
#include "gateway/spend_breaker_engine.hpp"
#include "gateway/spend_config.hpp"
#include "gateway/spend_watch.hpp"

namespace outlast::actors {

using breakers_atom = caf::atom_constant<caf::atom("breakers")>;
using tick_atom = caf::atom_constant<caf::atom("tick")>;

// Whose lanes saw it: this node's, or another's.
enum class SpendOrigin : std::uint8_t { lanes = 0, peers = 1 };
// What lanes saw. `place` counts the batches on their way, for as long as it lives.
struct SpendReport {
  std::vector<gateway::SpendEvent> events;
  std::shared_ptr<const void> place;
  SpendOrigin origin = SpendOrigin::lanes;
};

// Rules of the file and whom to tell, already validated.
struct ApplySpendConfig {
  std::shared_ptr<const gateway::SpendConfig> config;
};

struct ResetBreaker {
  std::string id;
  std::string by;
  std::string reason;
  PicoUsd allowance;
};
// A rule made by API, new or instead of the one of that name. `definition` is its JSON, for the ledger.
struct AddBreakerRule {
  SpendBreakerRule rule;
  std::string definition;
  std::string by;
  std::string reason;
};
struct RemoveBreakerRule {
  std::string name;
  std::string by;
  std::string reason;
};

// Entries of breakers in the ledger, in order: in a cluster, of every node.
struct BreakerNews {
  std::vector<BreakerEntry> entries;
  std::vector<std::string> told;  // deliveries of other nodes that have reached people
};

// What another node may have changed, for the node's actors.
struct LedgerNews {
  bool money_or_keys = false;
  std::vector<BreakerEntry> breakers;
  std::vector<std::string> told;  // as in BreakerNews
};

struct BreakerStatus {
  BreakerTripped trip;
  gateway::SpendState state = gateway::SpendState::open;
  std::int64_t since_ms = 0;  // of its state; wall clock
  std::optional<std::int64_t> half_opens_in_ms;
  std::string link;
};
struct BreakerRuleStatus {
  SpendBreakerRule rule;
  bool from_file = false;
};
struct BreakerReport {
  std::vector<BreakerStatus> breakers;  // those that are open
  std::vector<BreakerRuleStatus> rules;
};

// For /metrics. Any thread.
struct SpendCounters {
  std::atomic<std::uint64_t> events{0};
  std::atomic<std::uint64_t> events_dropped{0};  // too many batches were on their way
  std::atomic<std::uint64_t> events_untold{0};   // a peer's queue was full; once for each peer
  std::atomic<std::uint64_t> peer_events{0};     // of other nodes' lanes
  std::atomic<std::uint64_t> peer_events_missed{0};  // that were told and did not arrive
  std::atomic<std::uint64_t> trips{0};
  std::atomic<std::uint64_t> trips_dropped{0};   // too many breakers were open
  std::atomic<std::uint64_t> closed{0};          // by half-open, or with their rule
  std::atomic<std::uint64_t> resets{0};
  std::atomic<std::uint64_t> not_recorded{0};    // what the ledger did not take
  std::atomic<std::uint64_t> open{0};
  std::atomic<std::uint64_t> tracked{0};
};

}  // namespace outlast::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::SpendReport)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::ApplySpendConfig)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::ResetBreaker)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::AddBreakerRule)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::RemoveBreakerRule)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::BreakerNews)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::LedgerNews)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(outlast::actors::BreakerReport)
