// Exchange: one chat request from its reservation to its settlement. It reserves, tries the plan's deployments, holds
// everything back until the first content, passes the answer on, and completes it no earlier than the reservation is
// durable. One coroutine on one lane; it knows neither HTTP servers nor messages, only a CallerSink.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "core/clock.hpp"
#include "core/id.hpp"
#include "core/request_labels.hpp"
#include "core/virtual_key.hpp"
#include "gateway/dialect.hpp"
#include "gateway/lane_metrics.hpp"
#include "gateway/outcome_recorder.hpp"
#include "gateway/rate_limit.hpp"
#include "gateway/routing_policy.hpp"
#include "gateway/seams.hpp"
#include "gateway/snapshot.hpp"
#include "gateway/spend_watch.hpp"
#include "http/client.hpp"

namespace outlast::gateway {

class AnswerCache;

struct AnswerHead {
  std::string_view request_id;
  std::string_view deployment;  // empty when none was tried
  std::uint32_t attempts = 0;
  RateStanding rates;
};

// An error answer before any content. `body` is in OpenAI's error shape. Failover happened here, so the sink tells the
// caller's SDK not to multiply it (x-should-retry: false) unless it should.
struct Refusal {
  unsigned status = 503;
  std::string body;
  std::string message;                          // for callers that take no JSON
  std::optional<std::uint32_t> retry_after_s;   // integer seconds, as agents expect
  bool should_retry = false;                    // x-should-retry: a wait is all that it takes
  bool over_budget = false;
  bool idempotency_conflict = false;            // another request has the caller's Idempotency-Key
  std::optional<std::uint32_t> retry_after_ms;  // where it is known better than by the second
  AnswerHead head;
};

// Where the answer goes. Two implementations: an HTTP response and a message call. On the lane. An error of a method
// means that the caller is gone.
class CallerSink {
 public:
  virtual ~CallerSink() = default;
  // The first content has come: status 200 may go out, together with the first bytes or events.
  virtual asio::awaitable<Result<void>> begin(const AnswerHead& head) = 0;
  virtual asio::awaitable<Result<void>> pass(std::string_view bytes, std::span<const chat::Event> events) = 0;
  // Completes a streamed answer with its last bytes or events, after begin().
  virtual asio::awaitable<Result<void>> end(std::string_view bytes, std::span<const chat::Event> events) = 0;
  // A whole answer, instead of begin() … end().
  virtual asio::awaitable<Result<void>> whole(const AnswerHead& head, std::string_view body) = 0;
  virtual asio::awaitable<void> refuse(const Refusal& refusal) = 0;
  // After begin(): the failure's message in the caller's own form, then a cut; never a clean end.
  virtual asio::awaitable<void> break_off(const UpstreamFailure& failure) = 0;
  // Called at most once when the caller goes away before the end.
  virtual void on_gone(std::function<void()> callback) = 0;
};

// What an exchange uses of its lane. References outlive it.
struct LaneServices {
  http::Client& client;
  Meter& meter;
  const Clock& clock;
  UuidGenerator& ids;
  Random& random;
  RetryBudget& retries;
  OutcomeRecorder& outcomes;
  LaneMetrics& metrics;
  AnswerCache* answers = nullptr;  // of the node, for repeated Idempotency-Keys
  SpendLane* spend = nullptr;  // null: no spend breakers
};

struct ExchangeRequest {
  std::shared_ptr<const Snapshot> snapshot;
  std::shared_ptr<const VirtualKey> key;
  CallerForm form = CallerForm::openai_whole;
  CallerRequest caller;                 // views outlive the exchange
  std::uint64_t input_bytes = 0;        // of the caller's request: bounds its input tokens
  std::optional<std::uint32_t> deadline_ms;  // the caller's own, if shorter than the route's
  RequestLabels labels;
  std::optional<IdempotencyKey> idempotency;  // over HTTP only
};

// Runs to the end of the request; whatever happens, the sink got an answer and the ledger an end.
asio::awaitable<void> run_exchange(LaneServices& lane, CallerSink& sink, ExchangeRequest request);

}  // namespace outlast::gateway
