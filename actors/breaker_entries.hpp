// BreakerEntries: in a cluster, who records what the spend breakers of several nodes did at once, and who tells people.
//
// All nodes count the same spend, so they come to the same within milliseconds. The one that leads (owns the control
// shard) records it at once; the others wait, and record what no entry has told by then. People are told of entries, by
// the one that leads. The others keep them until it says that they were delivered, or for a minute, and the next one to
// lead tells what is left: more than once is better than never, and each delivery's id is the same.
// Pure: no threads, no clocks; `now_ms` is by spend_time_ms(). One owner.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/spend_breaker.hpp"

namespace outlast::actors {

// Who closes a breaker where no person does.
inline constexpr std::string_view closed_by_itself = "outlastd";

// What people are told.
struct BreakerEvent {
  std::string_view event;  // "tripped", "closed" (by itself), "reset"
  BreakerTripped trip;
  std::string by;
  std::string reason;
  std::int64_t time_ms = 0;  // of its entry, where it has one; wall clock
  // Of the delivery: the same whoever tells of the same entry.
  [[nodiscard]] std::string id() const { return trip.id + "-" + std::to_string(time_ms) + "-" + std::string(event); }
};

// What this node's engine did.
struct BreakerChange {
  BreakerOperation operation;  // trips and resets
  BreakerEvent event;
  bool told = false;  // the ledger did not take it once, and people know
};

class BreakerEntries {
 public:
  static constexpr std::int64_t record_wait_ms = 1'000;
  static constexpr std::int64_t retry_ms = 5'000;
  static constexpr std::int64_t tell_wait_ms = 60'000;  // well above what it takes to replace a dead owner
  static constexpr std::size_t untold_max = 1'024;      // the oldest go first, as of what was told

  // What the ledger has open at the start. Whoever told of the latest may have died before.
  void restore(const std::vector<BreakerRecord>& open, std::int64_t wall_ms, std::int64_t now_ms);

  // At most one change of a breaker waits: the latest.
  void changed(BreakerChange change, std::int64_t now_ms);
  // The ledger did not take it: it waits to be tried again, unless a newer change waits, or the log says as much already.
  void not_recorded(BreakerChange change, std::int64_t now_ms);
  // Changes to be recorded now.
  [[nodiscard]] std::vector<BreakerChange> due(bool leads, std::int64_t now_ms);
  // The change that waits, if any: somebody wants it recorded before something else.
  [[nodiscard]] std::optional<BreakerChange> take(const std::string& id);

  // An entry of the log, of any node, in order. False when it repeats what is known: some nodes recorded one trip.
  // `half_open_after_s`: of its rule; 0: never.
  bool entered(const BreakerEntry& entry, std::uint32_t half_open_after_s, std::int64_t now_ms);
  // Another node has told people; it may say so before the entry comes here.
  void told(const std::string& delivery);
  // What this node has to tell people now.
  [[nodiscard]] std::vector<BreakerEvent> to_tell(bool leads, std::int64_t now_ms);

  [[nodiscard]] std::optional<std::int64_t> next_due_ms() const;
  // Whether to_tell() has to be asked again.
  [[nodiscard]] bool keeps_untold() const { return !untold_.empty(); }

 private:
  struct Waiting {
    BreakerChange change;
    std::int64_t due_ms = 0;
    bool again = false;  // also who leads waits
  };
  struct Untold {
    BreakerEvent event;
    std::int64_t since_ms = 0;
  };
  void keep(BreakerEvent event, std::int64_t since_ms);

  std::map<std::string, Waiting> waiting_;     // by the breaker's id; each for retry_ms at most
  std::map<std::string, BreakerRecord> open_;  // as the log has them; bounded by the ledger
  std::deque<Untold> untold_;
  std::deque<std::string> told_;  // of late, by other nodes
};

}  // namespace outlast::actors
