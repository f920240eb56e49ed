// SpendHistory: what the ledger's entries say was spent, as the lanes would have reported it. What is not in the ledger
// (how conversations begin) is not recalled. Pure. One owner.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "gateway/spend_breaker_engine.hpp"
#include "storage/entry.hpp"

namespace outlast::actors {

class SpendHistory {
 public:
  // The same moment by the wall clock, which labels entries, and by spend_time_ms().
  SpendHistory(std::int64_t wall_ms, std::int64_t spend_ms) : offset_ms_(spend_ms - wall_ms), now_ms_(spend_ms) {}

  // Entries in order. Nothing for those that tell nothing, or whose reservation is older than what was read.
  std::optional<gateway::SpendEvent> read(const storage::StoredEntry& entry);

 private:
  struct Request {
    std::shared_ptr<const VirtualKey> key;
    std::vector<std::string> tags;
    std::string session;
    std::int64_t started_ms = 0;
  };
  [[nodiscard]] std::int64_t time_of(const storage::StoredEntry& entry) const;
  std::optional<gateway::SpendEvent> paid(const storage::StoredEntry& entry, const AttemptLine& attempt, bool ended);

  std::int64_t offset_ms_;
  std::int64_t now_ms_;
  std::unordered_map<RequestId, Request> open_;
  std::unordered_map<std::string, std::shared_ptr<const VirtualKey>> keys_;  // only ids and tenants
};

}  // namespace outlast::actors
