#include "gateway/reservation_refusal.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>

namespace outlast::gateway {
namespace {

constexpr std::int64_t retry_after_s_max = 4'000'000;  // a month and a half: the longest period

std::string utc_text(std::int64_t unix_ms) {
  const std::time_t seconds = unix_ms / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[sizeof "2026-12-01T00:00:00Z"];
  return std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0 ? std::string() : text;
}

std::string_view span_of(BudgetPeriod period) {
  switch (period) {
    case BudgetPeriod::day: return " for this day";
    case BudgetPeriod::week: return " for this week";
    case BudgetPeriod::month: return " for this month";
    case BudgetPeriod::total: break;
  }
  return " in total";
}

ReservationRefusal over_budget(const BudgetShortfall* shortfall, std::int64_t now_ms) {
  Refusal refusal{.status = 429, .message = "a budget on the way of this request is used up"};
  refusal.over_budget = true;
  if (shortfall != nullptr) {
    refusal.message = budget_message(*shortfall);
    if (shortfall->resets_ms > 0) {
      const std::int64_t wait_s = (shortfall->resets_ms - now_ms + 999) / 1000;
      refusal.retry_after_s = static_cast<std::uint32_t>(std::clamp<std::int64_t>(wait_s, 1, retry_after_s_max));
    }
  }
  return {std::move(refusal), "insufficient_quota", budget_exhausted_code};
}

}  // namespace

std::string budget_message(const BudgetShortfall& shortfall) {
  const PicoUsd left = std::max(shortfall.left, PicoUsd{});
  std::string text = "the budget '" + shortfall.budget_name + "' has " + left.to_usd() + " of " +
                     shortfall.amount.to_usd() + " USD left";
  text.append(span_of(shortfall.period)).append(", and this request may cost ").append(shortfall.needed.to_usd());
  if (shortfall.resets_ms > 0) {
    text += "; it resets at " + utc_text(shortfall.resets_ms) + ". A smaller max_tokens may fit";
  } else {
    text += "; it does not reset: a smaller max_tokens may fit, or ask an administrator to raise it";
  }
  return text;
}

ReservationRefusal reservation_refusal(const Error& error, const MeterRefusal& why, std::int64_t now_ms) {
  constexpr std::string_view idempotency = "idempotency_error";
  switch (why.kind) {
    case RefusalKind::budget_exhausted: return over_budget(why.shortfall ? &*why.shortfall : nullptr, now_ms);
    case RefusalKind::key_in_progress: {
      Refusal refusal{.status = 409,
                      .message = "a request with this Idempotency-Key is under way; ask again when it has ended"};
      refusal.retry_after_s = 1;
      refusal.should_retry = refusal.idempotency_conflict = true;
      return {std::move(refusal), idempotency, "idempotency_key_in_progress"};
    }
    case RefusalKind::key_used: {
      Refusal refusal{.status = 409,
                      .message = "a request with this Idempotency-Key has ended and its answer is not kept (streams are "
                                 "not, and others for a while only); it was not charged again. Send a new key to ask anew"};
      refusal.idempotency_conflict = true;
      return {std::move(refusal), idempotency, "idempotency_key_used"};
    }
    case RefusalKind::key_mismatch:
      return {Refusal{.status = 422,
                      .message = "this Idempotency-Key was used with another body; send a new key for a new request"},
              idempotency, "idempotency_key_mismatch"};
    case RefusalKind::other: break;
  }
  Refusal refusal{.status = 503, .message = "the ledger did not take the request: " + error.message};
  refusal.retry_after_s = 1;
  refusal.should_retry = true;
  return {std::move(refusal), "server_error", "ledger_unavailable"};
}

}  // namespace outlast::gateway
