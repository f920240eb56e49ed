// What a caller is told when there is no answer: by which limit, breaker, budget or failure.
#include <algorithm>
#include <utility>

#include "core/log.hpp"
#include "gateway/exchange_run.hpp"
#include "gateway/rate_headers.hpp"
#include "gateway/reservation_refusal.hpp"

namespace outlast::gateway {

// Only a wait helps, so the caller's SDK is told to try again by itself.
asio::awaitable<void> Exchange::refuse_limited(const RateRefusal& limit) {
  Refusal refusal{.status = 429, .message = limit.message()};
  refusal.retry_after_s = retry_after_s(limit.wait_ns);
  refusal.retry_after_ms = retry_after_ms(limit.wait_ns);
  refusal.should_retry = true;
  co_await refuse(std::move(refusal), limit.of_tokens ? "tokens" : "requests", "rate_limit_exceeded");
}

asio::awaitable<void> Exchange::refuse_unplanned() {
  const auto& limit = rates_.limited_deployment();
  if (limit && !plan_.saturated && !plan_.retry_at_ns) {
    co_await refuse_limited(*limit);
    co_return;
  }
  Refusal refusal{.status = 503, .message = "no deployment of '" + route_->name + "' can be tried now"};
  if (plan_.saturated) refusal.message += ": each is at its max_concurrency";
  std::int64_t wait_ns = 1'000'000'000;
  if (plan_.retry_at_ns) wait_ns = *plan_.retry_at_ns - started_ns_;
  if (limit) wait_ns = std::min(wait_ns, limit->wait_ns);
  refusal.retry_after_s = static_cast<std::uint32_t>(std::clamp<std::int64_t>((wait_ns + 999'999'999) / 1'000'000'000, 1, 3600));
  co_await refuse(std::move(refusal), "server_error", "no_deployment_available");
}

// The plan is exhausted: the last failure in the caller's words, by the error table.
asio::awaitable<void> Exchange::answer_failure(const UpstreamFailure& failure) {
  Refusal refusal;
  std::string_view type = "server_error";
  std::string_view code = "upstream_unavailable";
  refusal.message = "no deployment of '" + route_->name + "' answered; the last said: " + failure.message;
  switch (failure.status) {
    case AttemptStatus::refused:
      refusal.status = failure.http_status;
      refusal.message = failure.message;
      refusal.body = failure.caller_body;
      type = "invalid_request_error";
      code = failure.code;
      break;
    case AttemptStatus::throttled:
      refusal.status = 429;
      refusal.retry_after_s = std::max(1U, (failure.retry_after_ms.value_or(1000) + 999) / 1000);
      type = "rate_limit_error";
      code = "rate_limit_exceeded";
      break;
    case AttemptStatus::model_gone:
      refusal.status = 404;
      type = "invalid_request_error";
      code = "model_not_found";
      break;
    case AttemptStatus::credential:
      // The tenant's key is fine: what the provider said of ours is for the administrator's log.
      log::error("provider_refused_credential", {{"deployment", std::string(deployment_name_)},
                                                 {"status", failure.http_status},
                                                 {"message", failure.message.substr(0, 200)}});
      refusal.message = "no deployment of '" + route_->name + "' can serve now";
      [[fallthrough]];
    default:
      if (failure.http_status == 408 || failure.http_status == 409) {
        refusal.status = failure.http_status;
        refusal.body = failure.caller_body;
        break;
      }
      refusal.status = 503;
      refusal.retry_after_s = std::max(1U, (failure.retry_after_ms.value_or(1000) + 999) / 1000);
      break;
  }
  co_await refuse(std::move(refusal), type, code);
}

// The ledger refused the reservation after all. That is no fault of the deployment, and no other would fare better.
asio::awaitable<AttemptEnd> Exchange::end_unmetered(const Error& error) {
  const AttemptEnd end;
  settle(end);
  log::error("reservation_refused", {{"request_id", id_text()}, {"error", error.message}});
  if (!gone_) co_await refuse_reservation(error);
  co_return end;
}

asio::awaitable<void> Exchange::refuse_reservation(const Error& error) {
  ReservationRefusal refused = reservation_refusal(error, why_, lane_.clock.wall_ms());
  if (why_.shortfall) admission_.count_refusal(why_.shortfall->budget_id);
  Counter& counter = refused.refusal.over_budget             ? lane_.metrics.budget_refusals
                     : why_.kind == RefusalKind::other       ? lane_.metrics.ledger_refusals
                                                             : lane_.metrics.idempotency_refusals;
  counter.add();
  co_await refuse(std::move(refused.refusal), refused.type, refused.code);
}

asio::awaitable<void> Exchange::refuse(Refusal refusal, std::string_view type, std::string_view code) {
  lane_.metrics.refused.add();
  rates_.end();  // the headers tell what is left after it
  refusal.head = head();
  if (refusal.body.empty()) refusal.body = openai_error_body(refusal.message, type, code);
  co_await sink_.refuse(refusal);
}

}  // namespace outlast::gateway
