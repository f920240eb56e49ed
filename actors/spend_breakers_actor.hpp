#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "actors/breaker_entries.hpp"
#include "actors/interfaces.hpp"
#include "actors/spend_notifier.hpp"
#include "core/clock.hpp"
#include "gateway/spend_board.hpp"
#include "storage/entry.hpp"

namespace outlast::actors {

// All references outlive the actor.
struct SpendBreakersDependencies {
  gateway::SpendBoard& board;
  const Clock& clock;
  SpendNoticeSink& notices;
  SpendCounters& counters;
  // The ledger: what it knows at the start, and where changes go; `done` is called when one is durable, on any thread.
  std::function<Result<BreakerRecords>()> read_records;
  std::function<void(BreakerOperation operation, std::function<void(Result<void>)> done)> record;
  // Entries of the ledger in order, as far back as it is worth to look; may take a second.
  std::function<Result<void>(const std::function<void(const storage::StoredEntry&)>& visit)> read_history;
  // Reads the definition of a rule made by API.
  std::function<Result<SpendBreakerRule>(std::string_view definition)> parse_rule;
  // These are empty for a node on its own. Tells the other nodes what this one's lanes saw.
  std::function<void(const std::vector<gateway::SpendEvent>& events)> share;
  // Says to the other nodes that a delivery has reached people; any thread.
  std::function<void(const std::string& delivery)> tell_delivered;
  // Whether this node owns the control shard now; any thread.
  std::function<bool()> leads;
};

// The engine and what follows from its changes: the board, the ledger, notices, logs.
class SpendBreakersState {
 public:
  explicit SpendBreakersState(SpendBreakersDependencies dependencies);

  // The first time, what the ledger knows is restored: a restart closes nothing.
  Done configure(std::shared_ptr<const gateway::SpendConfig> config);
  void take(const SpendReport& report);
  void tick();
  Done reset(const ResetBreaker& request);
  Done add_rule(const AddBreakerRule& request);
  Done remove_rule(const RemoveBreakerRule& request);
  // What some node did; what this one did is known already and changes nothing.
  void follow(const BreakerNews& news);
  [[nodiscard]] BreakerReport report() const;
  // Until tick() has something to do; nothing: never.
  [[nodiscard]] std::optional<std::chrono::milliseconds> due() const;

  bool armed = false;  // a tick is on its way

 private:
  Done restore();
  // Counts what the ledger says was spent before this process began.
  void recall();
  void apply_rules();
  bool follow_rule(const BreakerRuleChange& change);
  void follow_changes();
  void tripped(const gateway::OpenBreaker& breaker);
  void closed(const gateway::OpenBreaker& breaker, const std::string& reason);
  SpendNotice notice(const BreakerEvent& event) const;
  void record(BreakerChange change);
  void write(BreakerChange change);
  void write_shared(BreakerChange change);
  // In a cluster: records what waited long enough for an entry of another node's, and tells what is this one's to tell.
  void follow_entries();
  void follow_trip(const BreakerEntry& entry, const BreakerTripped& trip);
  void follow_reset(const BreakerEntry& entry, const BreakerReset& reset);
  [[nodiscard]] bool alone() const { return !dependencies_.leads; }
  void publish();
  [[nodiscard]] bool in_file(std::string_view name) const;
  [[nodiscard]] std::string link_of(const std::string& id) const;
  [[nodiscard]] std::int64_t now_ms() const { return gateway::spend_time_ms(dependencies_.clock); }

  SpendBreakersDependencies dependencies_;
  gateway::SpendBreakerEngine engine_;
  gateway::SpendGates gates_;
  std::shared_ptr<const gateway::SpendConfig> config_;
  std::map<std::string, SpendBreakerRule, std::less<>> api_rules_;
  BreakerEntries entries_;
  // What write() gave to a cluster's ledger: call-backs come on its threads.
  struct Recording {
    std::mutex mutex;
    std::size_t under_way = 0;
    std::vector<BreakerChange> refused;
  };
  std::shared_ptr<Recording> recording_ = std::make_shared<Recording>();
  std::set<std::string> own_resets_;  // ids; they took hold here before their entries come as news
};

// Spawn detached: resets and changes of rules wait for the disk. `state` is shared with nobody else.
SpendBreakers::behavior_type spend_breakers_actor(SpendBreakers::pointer self, std::shared_ptr<SpendBreakersState> state);

}  // namespace outlast::actors
