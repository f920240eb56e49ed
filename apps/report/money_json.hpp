// Budgets and commitments as JSON, and what an administrator asks for as values: for the admin interface. Reading
// refuses anything that is not exactly what it says, with an error that names the member and what would be right.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/budget.hpp"
#include "core/commitment.hpp"
#include "core/result.hpp"

namespace outlast::apps {

// Append-only.
enum class RequestError : std::uint16_t { malformed = 1, unknown_name = 2 };

// {"budgets":[{"id", "name", "scope", "amount_usd", "period", "time_zone", "soft", "used_usd", "held_usd", "sliced_usd",
// "left_usd", "period_start_ms", "resets_ms"|null, "refusals"}]}. Amounts are decimal strings. `refusals_of` gives the
// requests refused for a budget's id since the node started.
std::string budgets_json(const std::vector<BudgetStatus>& budgets,
                         const std::function<std::uint64_t(const std::string&)>& refusals_of);

// {"commitments":[{"id", "provider", "models", "unit", "units", "used", "held", "left", "even_pace", "price_usd",
// "amortised_usd", "list_cost_usd", "from_ms", "until_ms", "rollover", "ended", "active", "behind", "unused_at_end",
// "runs_out_ms"|null, "price_at_full_use_usd", "price_at_pace_usd", "list_price_usd"}]}. Units are decimal strings: tokens,
// or US dollars at list price. The last three are per million tokens, or per dollar at list price.
std::string commitments_json(const std::vector<CommitmentStatus>& commitments, std::int64_t now_ms);

struct BudgetRequest {
  Budget budget;  // without an id: a new one, or the one with the same scope, period and name
  std::string by;
};
// {"scope", "amount_usd", "period", "time_zone"?, "soft"?, "name"?, "id"?, "by"?}.
Result<BudgetRequest> read_budget_request(std::string_view body);

struct CommitmentRequest {
  Commitment commitment;  // without an id
  std::string by;
};
// {"provider", "models"?, "tokens" | "usd", "price_usd", "from_ms", "until_ms", "rollover"?, "by"?}.
Result<CommitmentRequest> read_commitment_request(std::string_view body);

// "5000000000", "5e9", "2.5e9": a whole number of tokens, from 1 to 10^18.
Result<__int128> parse_token_count(std::string_view text);

// What budgets and commitments may name, so that a slip of the pen is no budget on nothing.
struct KnownNames {
  std::vector<std::string> providers;
  std::vector<std::string> models;  // as providers serve them
  std::vector<std::string> keys;    // ids
};
// Of scopes whose values stand in the configuration or in the ledger: provider, model, key. Others may come first.
Result<void> check_known(const Scope& scope, const KnownNames& known);
Result<void> check_known(const Commitment& commitment, const KnownNames& known);

}  // namespace outlast::apps

namespace outlast {
template <>
inline constexpr std::string_view error_module<apps::RequestError> = "request";
}  // namespace outlast
