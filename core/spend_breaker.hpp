// Spend breakers: rules that stop a runaway before the invoice does, and what the ledger keeps of them. Plain values.
// (The breaker of a deployment, gateway/breaker.hpp, is about failures and has nothing to do with them.)
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/money.hpp"
#include "core/result.hpp"
#include "core/scope.hpp"

namespace outlast {

// What happens to requests while a breaker is open. Append-only.
enum class SpendAction : std::uint8_t {
  notify = 0,    // nothing: people are told
  throttle = 1,  // so many a minute pass
  hold = 2,      // none pass
};
inline constexpr std::string_view spend_action_names[] = {"notify", "throttle", "hold"};
inline std::string_view name_of(SpendAction action) { return spend_action_names[static_cast<std::size_t>(action)]; }

// One scope, or each of a kind: "user:*" is every user, each counted alone.
struct SpendScope {
  ScopeKind kind = ScopeKind::organisation;
  std::string value;  // empty: each
  bool operator==(const SpendScope&) const = default;
  [[nodiscard]] bool each() const { return value.empty(); }
  [[nodiscard]] std::string to_string() const;
  // KIND:VALUE or KIND:*. Errors are those of Scope::parse.
  [[nodiscard]] static Result<SpendScope> parse(std::string_view text);
};

// Opens at `amount` within any `window_s`.
struct SpendWindowLimit {
  PicoUsd amount;
  std::uint32_t window_s = 0;
  bool operator==(const SpendWindowLimit&) const = default;
};
// Opens when a sample (a minute, unless told otherwise) costs more than `factor` times the median of the scope's own
// last `history` samples in which it spent anything, and at least `min_amount`.
struct SpendRateLimit {
  std::uint32_t factor = 0;
  PicoUsd min_amount;
  std::uint32_t history = 60;
  std::uint32_t sample_s = 60;
  bool operator==(const SpendRateLimit&) const = default;
};
// Opens when a session lasts or costs too much. A session is one key with one session name or, where the caller names
// none, one conversation; it ends when nothing of it happens for `idle_gap_s`.
struct SpendSessionLimit {
  std::uint32_t max_duration_s = 0;  // 0: any
  PicoUsd max_amount;                // 0: any
  std::uint32_t idle_gap_s = 900;
  bool operator==(const SpendSessionLimit&) const = default;
};
// Opens at the `count`th identical request of one key within `window_s`.
struct SpendRepeatLimit {
  std::uint32_t count = 0;
  std::uint32_t window_s = 0;
  bool operator==(const SpendRepeatLimit&) const = default;
};
using SpendLimit = std::variant<SpendWindowLimit, SpendRateLimit, SpendSessionLimit, SpendRepeatLimit>;
// In the order of SpendLimit.
inline constexpr std::string_view spend_limit_names[] = {"window", "rate", "session", "repeats"};
inline std::string_view name_of(const SpendLimit& limit) { return spend_limit_names[limit.index()]; }

inline constexpr std::size_t spend_rules_max = 64;

struct SpendBreakerRule {
  std::string name;
  SpendScope scope;
  SpendLimit limit;
  SpendAction action = SpendAction::hold;
  std::uint32_t requests_per_minute = 0;  // with SpendAction::throttle
  std::uint32_t half_open_after_s = 0;    // 0: only a person closes it
  std::uint32_t half_open_requests = 1;   // so many pass then, and decide
  bool operator==(const SpendBreakerRule&) const = default;
};

// What the ledger keeps. A breaker's id follows from its rule and from what it is about, so it is the same after a
// restart.
struct BreakerTripped {
  std::string id;     // "brk_…"
  std::string rule;
  std::string scope;    // "user:acme/search/ann"
  std::string session;  // "session NAME", "conversation HEX" or "request HEX"; empty for a whole scope
  SpendAction action = SpendAction::hold;
  std::string why;      // for people
  bool operator==(const BreakerTripped&) const = default;
};
struct BreakerReset {
  std::string id;
  std::string by;      // who closed it: a person, or "half-open"
  std::string reason;
  PicoUsd allowance;   // may be spent before it can trip again; 0: counting starts anew
  bool operator==(const BreakerReset&) const = default;
};
struct BreakerRuleChange {
  std::string name;
  std::string definition;  // the rule as JSON (docs/breakers.md); empty: removed
  std::string by;
  std::string reason;
  bool operator==(const BreakerRuleChange&) const = default;
};

using BreakerOperation = std::variant<BreakerTripped, BreakerReset, BreakerRuleChange>;

// One as it stands in the ledger.
struct BreakerEntry {
  BreakerOperation operation;
  std::int64_t time_ms = 0;  // the entry's; wall clock
};

// Where the ledger's breakers stand.
struct BreakerRecord {
  BreakerTripped trip;
  std::int64_t tripped_ms = 0;
};
struct BreakerRecords {
  std::vector<BreakerRecord> open;
  std::map<std::string, PicoUsd> allowances;       // of the latest reset, by id; gone with the next trip
  std::map<std::string, std::string> definitions;  // of rules made by API, by name
};

}  // namespace outlast
