// The state of one exchange (exchange.hpp) while it runs. Its way through the plan stands in exchange.cpp, what the
// caller is told when there is no answer in exchange_refusals.cpp. One coroutine on one lane.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>

#include "gateway/admission.hpp"
#include "gateway/exchange.hpp"
#include "gateway/exchange_rates.hpp"
#include "gateway/tranches.hpp"

namespace outlast::gateway {

// How one attempt ended.
struct AttemptEnd {
  AttemptStatus status = AttemptStatus::ok;
  std::optional<UpstreamFailure> failure;
  bool asked = true;  // false: the deployment's dialect has no word for the request
};

// Keeps a deployment's count of requests under way.
class InFlight {
 public:
  InFlight(DeploymentGauge& gauge, std::uint32_t max) : gauge_(gauge), entered_(gauge.enter(max)) {}
  ~InFlight() {
    if (entered_) gauge_.leave();
  }
  InFlight(const InFlight&) = delete;
  InFlight& operator=(const InFlight&) = delete;
  [[nodiscard]] bool entered() const { return entered_; }

 private:
  DeploymentGauge& gauge_;
  bool entered_;
};

class Exchange {
 public:
  Exchange(LaneServices& lane, CallerSink& sink, ExchangeRequest request)
      : lane_(lane),
        sink_(sink),
        request_(std::move(request)),
        spend_(lane.spend, request_, lane.clock, lane.metrics),
        rates_(request_.snapshot->rates.get(), lane.clock, lane.metrics) {}

  asio::awaitable<void> run();

 private:
  void plan();
  Result<void> reserve();
  Result<void> submit_reservation(Reservation reservation);
  asio::awaitable<bool> admitted();
  asio::awaitable<Result<void>> reserved();
  // Whether the reservation is known to be durable: saves a suspension.
  [[nodiscard]] bool is_reserved() const { return reserved_ ? reserved_->has_value() : lane_.meter.is_durable(ticket_); }
  asio::awaitable<bool> extend();
  asio::awaitable<bool> extended();
  asio::awaitable<void> release();
  asio::awaitable<void> try_plan();
  asio::awaitable<void> wait_unless_gone(std::uint32_t ms);

  // One attempt at plan_.deployments[next_].
  asio::awaitable<AttemptEnd> attempt();
  asio::awaitable<AttemptEnd> read_answer(http::ClientResponse& response, const http::ClientTimeouts& timeouts);
  asio::awaitable<AttemptEnd> read_error(http::ClientResponse& response, Dialect dialect);
  asio::awaitable<Result<void>> forward(const AnswerStep& step);
  asio::awaitable<AttemptEnd> complete(const AnswerStep& last);
  asio::awaitable<AttemptEnd> end_unmetered(const Error& error);
  [[nodiscard]] AttemptEnd broken(const Error& error) const;
  [[nodiscard]] AttemptEnd failed(UpstreamFailure failure) const;

  [[nodiscard]] AttemptLine line(const AttemptEnd& end) const;
  void settle(const AttemptEnd& end);
  bool submit(MeteringOperation operation);
  [[nodiscard]] AttemptEnd out_of_budget() const;

  asio::awaitable<void> refuse_limited(const RateRefusal& limit);
  asio::awaitable<void> refuse_unplanned();
  asio::awaitable<void> answer_failure(const UpstreamFailure& failure);
  asio::awaitable<void> refuse_reservation(const Error& error);
  asio::awaitable<void> refuse(Refusal refusal, std::string_view type, std::string_view code);

  void lose_caller();
  void note_first_content();
  [[nodiscard]] AnswerHead head() const;
  [[nodiscard]] std::string_view id_text() const { return {id_text_.data(), id_text_.size()}; }
  [[nodiscard]] std::uint32_t elapsed_ms(std::int64_t since_ns) const;
  [[nodiscard]] std::uint32_t left_ms() const;
  // What is left of the wait for the first content: the attempt's own, within the request's.
  [[nodiscard]] std::uint32_t content_left_ms(const http::ClientTimeouts& timeouts) const;

  LaneServices& lane_;
  CallerSink& sink_;
  ExchangeRequest request_;
  SpendWatch spend_;
  ExchangeRates rates_;

  RequestId id_;
  Uuid::Text id_text_;
  const ResolvedRoute* route_ = nullptr;
  std::uint32_t deadline_ms_ = 0;  // for everything before the first content
  Plan plan_;
  Admission admission_;
  bool from_slices_ = false;
  std::optional<Reservation> awaited_;   // waits for the ledger's word before a provider is asked
  std::uint64_t ticket_ = 0;             // of the reservation
  std::optional<Result<void>> reserved_; // the ledger's word on it
  MeterRefusal why_;                     // of its latest no
  std::optional<Tranches> tranches_;     // of a stream under a hard budget
  ReservationExtension extension_;       // the latest
  std::uint64_t extension_ticket_ = 0;   // 0: the ledger's word on it is known
  std::uint16_t extensions_ = 0;
  std::uint64_t input_tokens_max_ = 0;   // as reserved
  std::uint64_t output_tokens_max_ = 0;  // as reserved so far
  std::int64_t started_ns_ = 0;
  std::uint16_t attempts_ = 0;

  // The present attempt.
  std::size_t next_ = 0;
  std::string_view deployment_name_;
  std::int64_t attempt_started_ns_ = 0;
  std::uint32_t first_event_ms_ = 0;
  std::unique_ptr<AnswerReader> reader_;
  http::Cancellation cancellation_;
  asio::steady_timer* retry_wait_ = nullptr;  // while one is under way

  bool begun_ = false;    // the caller has status 200
  bool gone_ = false;     // the caller went away
  bool settled_ = false;  // the ledger has the end of the reservation
};

}  // namespace outlast::gateway
