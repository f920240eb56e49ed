// SpendBreakerEngine: counts what is spent by the rules, and says when a breaker opens, is tried, and closes. The same
// events in the same order give the same changes anywhere.
//
//   closed --(a rule's limit is reached)--> open --(half_open_after_s)--> half-open --(few requests end)--> closed, open
//                                           open, half-open --(reset by a person)--> closed
//
// Pure: no threads, no clocks; times are milliseconds by spend_time_ms(). Memory is bounded; an event costs constant time per
// rule. One owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "core/clock.hpp"
#include "core/spend_breaker.hpp"
#include "core/virtual_key.hpp"
#include "gateway/spend_counters.hpp"

namespace outlast::gateway {

// The monotonic clock a year later, so that what happened before this machine was started has a time above zero.
inline std::int64_t spend_time_ms(const Clock& clock) {
  return clock.monotonic_ns() / 1'000'000 + std::int64_t{366} * 24 * 3'600'000;
}

// A piece of what one request costs: at the end of each attempt, and each second of a long stream.
struct SpendEvent {
  std::shared_ptr<const VirtualKey> key;
  std::vector<std::string> tags;
  std::string session;             // the caller's name for it; empty for none
  std::uint64_t conversation = 0;  // keyed hash of how the conversation begins; 0: not known
  std::uint64_t request = 0;       // keyed hash of the whole request; 0: not known
  std::string provider;            // who is paid; empty where nobody was asked
  std::string model;
  PicoUsd cost;                    // since the event before; may be negative, where an estimate was too high
  std::int64_t started_ms = 0;     // of the request
  std::int64_t time_ms = 0;
  bool ended = false;              // the request's last event
};

struct SpendEngineLimits {
  std::size_t tracked_max = 65'536;  // scopes and sessions, over all rules; the longest idle go first
  std::size_t open_max = 8'192;      // open breakers; more trips are counted and not kept
};

// What a tripped breaker is about, as lanes look for it: a scope, or one session or request of a key.
struct SpendSubject {
  ScopeKind kind = ScopeKind::key;
  std::string value;
  std::string session;  // "session NAME", "conversation HEX", "request HEX"; empty: all of the scope
  bool operator==(const SpendSubject&) const = default;
  // "key:key_x session NAME": unique.
  [[nodiscard]] std::string to_string() const;
};
std::string session_subject(std::string_view session_name);
std::string conversation_subject(std::uint64_t hash);
std::string request_subject(std::uint64_t hash);
// "brk_" and 60 bits of a digest of both.
std::string spend_breaker_id(std::string_view rule, const SpendSubject& subject);

enum class SpendState : std::uint8_t { open = 1, half_open = 2 };
inline std::string_view name_of(SpendState state) { return state == SpendState::open ? "open" : "half_open"; }

struct OpenBreaker {
  BreakerTripped trip;
  SpendSubject subject;
  SpendState state = SpendState::open;
  std::uint32_t requests_per_minute = 0;
  std::uint32_t half_open_requests = 0;
  std::int64_t since_ms = 0;                   // of its state
  std::optional<std::int64_t> half_opens_ms;   // when it is tried next; nothing: only a person closes it
};

enum class SpendChangeKind : std::uint8_t {
  tripped = 0,      // closed or half-open before
  half_opened = 1,
  closed = 2,       // the rule is satisfied again, or gone; `reason` says which
};
struct SpendChange {
  SpendChangeKind kind = SpendChangeKind::tripped;
  OpenBreaker breaker;
  std::string reason;
};

class SpendBreakerEngine {
 public:
  explicit SpendBreakerEngine(SpendEngineLimits limits = {}) : limits_(limits) {}

  // At most spend_rules_max, each name once (checked where rules are read). What an unchanged rule counted stays; open
  // breakers of rules that are gone close.
  void set_rules(std::vector<SpendBreakerRule> rules);
  // From the ledger, before any event: `since_ms` is when it tripped, and may lie before zero.
  void restore(const BreakerTripped& trip, std::int64_t since_ms);
  void restore_allowance(const std::string& id, PicoUsd allowance) { allowances_[id] = allowance; }

  // What happened before this process began, in order, after set_rules() and before any other event: it is counted, and
  // opens nothing.
  void recall(const SpendEvent& event);
  void recall_trip(const std::string& id) { allowances_.erase(id); }
  void recall_reset(const std::string& id, PicoUsd allowance);

  // Times that go back count as the latest.
  void record(const SpendEvent& event);
  void advance(std::int64_t now_ms);
  // A person closes a breaker. Without an allowance its counting starts anew; with one, what was counted stays, and
  // nothing is judged until so much more is spent. False when no such breaker is open.
  bool reset(const std::string& id, PicoUsd allowance);
  // Another node's engine closed it by half-open: what was counted stays. False as above.
  bool close(const std::string& id) { return open_.erase(id) > 0; }

  // What has changed since the last call, in order.
  [[nodiscard]] std::vector<SpendChange> take_changes();
  // When advance() may have something to do; nothing: never.
  [[nodiscard]] std::optional<std::int64_t> next_due_ms() const;

  [[nodiscard]] const std::map<std::string, OpenBreaker>& open() const { return open_; }
  [[nodiscard]] PicoUsd allowance_of(const std::string& id) const;
  [[nodiscard]] std::vector<SpendBreakerRule> rules() const;
  // Of the rule of that name; 0 where there is none, too.
  [[nodiscard]] std::uint32_t half_open_after_s(std::string_view rule) const;
  [[nodiscard]] std::size_t tracked() const;
  [[nodiscard]] std::uint64_t trips_dropped() const { return trips_dropped_; }

 private:
  using Counter = std::variant<SlidingSum<PicoUsd>, SpendRate, SpendSession, SlidingSum<std::uint64_t>>;
  struct Tracked {
    std::string id;
    std::unique_ptr<Counter> counter;
  };
  struct Rule {
    SpendBreakerRule rule;
    RecentMap<Tracked> tracked;
  };

  // Calls visit(rule, subject) for each rule that the event is about.
  template <class Visit>
  void visit_rules(const SpendEvent& event, const Visit& visit);
  Tracked& track(Rule& rule, const SpendSubject& subject);
  // Why the rule's limit is reached now; empty when it is not.
  std::string count(const SpendBreakerRule& rule, Counter& counter, const SpendEvent& event) const;
  void judge(Rule& rule, const SpendSubject& subject, const SpendEvent& event);
  void trip(const SpendBreakerRule& rule, const SpendSubject& subject, const std::string& id, std::string why);
  // True while an allowance covers what was spent.
  bool allowed(const std::string& id, PicoUsd cost);
  [[nodiscard]] Rule* find(std::string_view name);
  void find_due();

  static constexpr std::int64_t never_ms = std::numeric_limits<std::int64_t>::max();

  SpendEngineLimits limits_;
  std::vector<std::unique_ptr<Rule>> rules_;
  std::map<std::string, OpenBreaker> open_;
  std::unordered_map<std::string, PicoUsd> allowances_;
  std::vector<SpendChange> changes_;
  std::int64_t now_ms_ = 0;
  std::int64_t due_ms_ = never_ms;  // no half-opening is due before
  std::uint64_t trips_dropped_ = 0;
};

}  // namespace outlast::gateway
