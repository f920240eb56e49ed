// Budget: a limit on what a scope may spend in a period. Plain values; the ledger keeps and enforces them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/money.hpp"
#include "core/scope.hpp"

namespace outlast {

// Append-only.
enum class BudgetPeriod : std::uint8_t { total = 0, day = 1, week = 2, month = 3 };
inline constexpr std::string_view budget_period_names[] = {"total", "day", "week", "month"};
inline std::string_view name_of(BudgetPeriod period) {
  return budget_period_names[static_cast<std::size_t>(period)];
}

struct Budget {
  std::string id;    // "bud_…"
  std::string name;  // for people; may be empty
  Scope scope;
  PicoUsd amount;  // per period
  BudgetPeriod period = BudgetPeriod::month;
  std::string time_zone = "UTC";  // IANA name: where days begin; weeks begin on Monday
  bool soft = false;              // counts and reports, refuses nothing

  bool operator==(const Budget&) const = default;
};

// Where a budget stands. used + held + sliced <= part() for a hard budget, at every prefix of the ledger.
struct BudgetStatus {
  Budget budget;
  PicoUsd used;    // settled in this period
  PicoUsd held;    // by open reservations
  PicoUsd sliced;  // granted to holders of slices and not yet spent
  std::int64_t period_start_ms = 0;
  std::int64_t period_end_ms = 0;  // 0: it never resets
  bool away = false;  // another shard of a cluster is its home, and allots what may be spent here
  PicoUsd allotted;   // away: what the home allotted here; at home: minus what it allotted to others
  // What may be spent here. The parts of all shards sum to the amount, less what is on its way.
  [[nodiscard]] PicoUsd part() const { return away ? allotted : budget.amount + allotted; }
  [[nodiscard]] PicoUsd left() const { return part() - used - held; }
};

// Why a reservation was refused, for the caller's error answer.
struct BudgetShortfall {
  std::string budget_id;
  std::string budget_name;  // or its scope where it has no name
  PicoUsd amount;           // the limit
  PicoUsd left;
  PicoUsd needed;
  BudgetPeriod period = BudgetPeriod::total;
  std::int64_t resets_ms = 0;  // 0: never
};

}  // namespace outlast
