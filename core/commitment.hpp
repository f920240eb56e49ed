// Commitment: tokens or money bought in bulk from a provider, drawn down before anything is bought on demand.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/money.hpp"

namespace outlast {

// Append-only.
enum class CommitmentUnit : std::uint8_t { tokens = 0, money = 1 };

struct Commitment {
  std::string id;  // "com_…"
  std::string provider;
  std::vector<std::string> models;  // as the provider serves them; empty: all of them
  CommitmentUnit unit = CommitmentUnit::money;
  // Tokens, or pico-USD at list price. What is drawn down.
  __int128 units = 0;
  PicoUsd price;  // what was paid for all of it; amortised as it is drawn: price * drawn / units, rounded down
  std::int64_t from_ms = 0;
  std::int64_t until_ms = 0;  // exclusive
  bool rollover = false;      // what is left at `until` stays usable until it is used up

  bool operator==(const Commitment&) const = default;
  [[nodiscard]] bool covers(std::string_view served_model) const;
};

struct CommitmentStatus {
  Commitment commitment;
  __int128 used = 0;  // units drawn by settlements
  __int128 held = 0;  // units held by open reservations
  PicoUsd amortised;  // of the price
  PicoUsd list_cost;  // what the drawn units would have cost at list price
  bool ended = false;
  bool away = false;      // as of a budget (budget.hpp)
  __int128 allotted = 0;  // units; as of a budget
  [[nodiscard]] __int128 part() const { return away ? allotted : commitment.units + allotted; }
};

}  // namespace outlast
