#include "gateway/exchange.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "core/check.hpp"
#include "core/log.hpp"
#include "gateway/exchange_metering.hpp"
#include "gateway/exchange_run.hpp"
#include "gateway/reservation_refusal.hpp"

namespace outlast::gateway {
namespace {

constexpr std::size_t error_body_bytes_max = 64 * 1024;
constexpr std::size_t upstream_headers_max = 4;
// A refused reservation that would fit is tried again: what it needs is in the hands of a lane this instant.
constexpr std::uint32_t admission_retries_max = 5;
constexpr std::uint32_t admission_retry_ms = 2;

}  // namespace

asio::awaitable<void> Exchange::run() {
  id_ = lane_.ids.next();
  id_text_ = id_.text();
  started_ns_ = lane_.clock.monotonic_ns();
  lane_.retries.earn();
  const std::uint64_t tokens_max =
      worst_case_tokens(request_.caller.head, request_.input_bytes, request_.snapshot->serving);
  if (const auto limit = rates_.admit(*request_.key, tokens_max)) {
    co_await refuse_limited(*limit);
    co_return;
  }
  route_ = request_.snapshot->routing->find(request_.caller.head.model);
  if (route_ == nullptr) {
    Refusal unknown{.status = 404, .message = "the model '" + request_.caller.head.model.substr(0, 200) +
                                              "' is not a route or model of this gateway; GET /v1/models lists them"};
    co_await refuse(std::move(unknown), "invalid_request_error", "model_not_found");
    co_return;
  }
  if (auto held = spend_.enter(*request_.snapshot, *route_)) {
    co_await refuse(std::move(*held), {}, {});
    co_return;
  }
  deadline_ms_ = std::min(route_->policy.deadline_ms, request_.deadline_ms.value_or(route_->policy.deadline_ms));
  plan();
  if (plan_.deployments.empty()) {
    co_await refuse_unplanned();
    co_return;
  }
  if (const auto reserved = reserve(); !reserved) {
    lane_.metrics.ledger_refusals.add();
    const bool unpriced = is(reserved.error(), RoutingError::unpriced);
    Refusal refusal{.status = 503, .message = reserved.error().message};
    refusal.should_retry = !unpriced;  // another node may take it
    if (!unpriced) refusal.retry_after_s = 1;
    co_await refuse(std::move(refusal), "server_error", unpriced ? "price_missing" : "ledger_unavailable");
    co_return;
  }
  if (awaited_ && !co_await admitted()) co_return;
  sink_.on_gone([this] {
    lose_caller();
    if (!route_->policy.drain_on_disconnect) cancellation_.cancel();
    if (retry_wait_ != nullptr) retry_wait_->cancel();
  });
  co_await try_plan();
}

// Tries deployments until one has answered or the plan is exhausted. Leaves the reservation settled or void.
asio::awaitable<void> Exchange::try_plan() {
  UpstreamFailure last;
  bool same_retried = false;
  while (next_ < plan_.deployments.size()) {
    const std::uint32_t deployment = plan_.deployments[next_];
    DeploymentGauge& gauge = *request_.snapshot->gauges[deployment];
    const InFlight in_flight(gauge, request_.snapshot->routing->deployments()[deployment].max_concurrency);
    const bool probe = next_ == 0 && !same_retried && plan_.first_is_probe;
    // Another request may have been quicker since the plan.
    if (!in_flight.entered() || !rates_.enter(gauge.name()) || (probe && !gauge.take_probe())) {
      rates_.leave();
      ++next_;
      continue;
    }
    AttemptEnd end = co_await attempt();
    if (!end.asked) {  // another dialect may have the word
      rates_.leave();
      if (probe) lane_.outcomes.record(gauge, AttemptStatus::caller_gone, std::nullopt, probe);
      if (attempts_ == 0) last = std::move(*end.failure);
      ++next_;
      continue;
    }
    // An answer that came to its end is good news, whoever was left to take it.
    const bool at_fault = end.failure && !end.failure->over_budget;
    lane_.outcomes.record(gauge, at_fault ? end.status : AttemptStatus::ok,
                          at_fault ? end.failure->retry_after_ms : std::nullopt, probe);
    if (begun_ || gone_ || !at_fault) {
      settle(end);
      if (admission_.holds()) co_await release();
      if (!end.failure || gone_) co_return;
      if (begun_) {
        lane_.metrics.cut.add();
        if (end.failure->over_budget) {
          lane_.metrics.budget_cuts.add();
          if (why_.shortfall) admission_.count_refusal(why_.shortfall->budget_id);
        }
        co_await sink_.break_off(*end.failure);
      } else if (end.failure->over_budget) {
        co_await refuse_reservation(Error{"ledger", 0, end.failure->message});
      } else {
        co_await answer_failure(*end.failure);
      }
      co_return;
    }
    AttemptLine failed_line = line(end);
    admission_.charge(failed_line);
    rates_.used(failed_line.usage);
    submit(std::move(failed_line));
    last = std::move(*end.failure);
    // A probe is one request: its failure opens the breaker again, and the deployment is left alone.
    const FailoverState state{attempts_, route_->policy.attempts_max, next_ + 1 < plan_.deployments.size(),
                              same_retried || probe, left_ms()};
    const FailoverStep step = after_failure(last, state, lane_.retries, lane_.random);
    if (step.action == FailoverAction::give_up) break;
    lane_.metrics.failovers.add();
    same_retried = step.action == FailoverAction::same_deployment;
    if (!same_retried) ++next_;
    if (step.wait_ms > 0) co_await wait_unless_gone(step.wait_ms);
    if (gone_) break;
  }
  if (last.message.empty()) last.message = "every deployment of the route is busy";
  if (!submit(VoidReservation{id_, last.message.substr(0, 200)})) admission_.abandon();
  settled_ = true;
  const auto durable = co_await reserved();
  if (admission_.holds()) co_await release();
  if (!durable) log::error("reservation_refused", {{"request_id", id_text()}, {"error", durable.error().message}});
  if (gone_) co_return;
  if (attempts_ == 0 && rates_.limited_deployment()) co_await refuse_limited(*rates_.limited_deployment());
  else co_await answer_failure(last);
}

asio::awaitable<void> Exchange::wait_unless_gone(std::uint32_t ms) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor, std::chrono::milliseconds(ms));
  retry_wait_ = &timer;
  const auto [woken] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  static_cast<void>(woken);  // cancelled: the caller is gone
  retry_wait_ = nullptr;
}

void Exchange::plan() {
  const Snapshot& snapshot = *request_.snapshot;
  std::vector<Candidate> candidates;
  candidates.reserve(route_->deployments.size());
  for (const std::uint32_t index : route_->deployments) {
    if (spend_.holds(index)) continue;
    const Deployment& deployment = snapshot.routing->deployments()[index];
    const DeploymentGauge& gauge = *snapshot.gauges[index];
    if (rates_.limited(deployment.name)) continue;
    candidates.push_back({index, deployment.priority, deployment.weight, gauge.state(started_ns_), gauge.probe_free(),
                          deployment.max_concurrency > 0 && gauge.in_flight() >= deployment.max_concurrency,
                          gauge.open_until_ns(), route_->policy.burn && gauge.burning()});
  }
  make_plan(candidates, lane_.random, plan_);
}

Result<void> Exchange::reserve() {
  auto reservation = worst_case_reservation(*request_.snapshot, plan_.deployments, *request_.key, request_.caller.head,
                                            request_.input_bytes, id_.unix_ms());
  if (!reservation) return fail(reservation.error());
  reservation->request_id = id_;
  reservation->tags = request_.labels.tags;
  reservation->session = request_.labels.session;
  reservation->idempotency = request_.idempotency;
  admission_.find(request_.snapshot->budgets.get(), *reservation);
  const bool streamed = request_.form != CallerForm::openai_whole;
  if (streamed && admission_.limited() && reservation->output_tokens_max > Tranches::tokens_min) {
    tranches_.emplace(reservation->output_tokens_max);
    reservation->output_tokens_max = tranches_->reserved();
    reservation->amount = worst_case_amount(*request_.snapshot, plan_.deployments, reservation->input_tokens_max,
                                            reservation->output_tokens_max, id_.unix_ms());
  }
  input_tokens_max_ = reservation->input_tokens_max;
  output_tokens_max_ = reservation->output_tokens_max;
  if (!reservation->price_known) lane_.metrics.unpriced.add();
  return submit_reservation(std::move(*reservation));
}

Result<void> Exchange::submit_reservation(Reservation reservation) {
  admission_.take(reservation);
  // Covered by slices, it becomes durable while the provider works; where the provider is quicker, durable() hastens
  // it. Otherwise, and where it may be a repetition, the ledger is asked before the provider bills.
  from_slices_ = reservation.from_slices;
  const bool waits = !from_slices_ || reservation.idempotency;
  if (waits) awaited_ = reservation;
  else if (admission_.limited()) lane_.metrics.admitted_in_slice.add();
  const auto ticket = lane_.meter.submit(std::move(reservation), waits);
  if (!ticket) {
    admission_.put_back();
    return fail(ticket.error());
  }
  ticket_ = *ticket;
  return {};
}

// Waits for the ledger's word. False: it said no, and the caller knows.
asio::awaitable<bool> Exchange::admitted() {
  for (std::uint32_t retries = 0;; ++retries) {
    const auto durable = co_await reserved();
    if (durable) {
      if (admission_.limited()) (from_slices_ ? lane_.metrics.admitted_in_slice : lane_.metrics.admitted_in_step).add();
      co_return true;
    }
    admission_.put_back();
    Error error = durable.error();
    if (why_.shortfall && why_.shortfall->left >= why_.shortfall->needed && retries < admission_retries_max) {
      co_await wait_unless_gone(admission_retry_ms);
      reserved_.reset();
      const auto again = submit_reservation(std::move(*awaited_));
      if (again) continue;
      error = again.error();
      why_ = {};
    }
    co_await refuse_reservation(error);
    co_return false;
  }
}

asio::awaitable<Result<void>> Exchange::reserved() {
  if (!reserved_) {
    reserved_ = co_await lane_.meter.durable(ticket_);
    if (!*reserved_) why_ = lane_.meter.refusal(ticket_);
  }
  co_return *reserved_;
}

// Reserves the stream's next tranche. False when a budget has no more; why_ says which.
asio::awaitable<bool> Exchange::extend() {
  if (!co_await extended()) co_return false;
  const std::uint64_t least = tranches_->least_tokens();
  for (std::uint64_t tokens = tranches_->next_tokens();; tokens = least) {
    const std::uint64_t reserved = tranches_->reserved();
    const auto amount_of = [this](std::uint64_t output_tokens) {
      return worst_case_amount(*request_.snapshot, plan_.deployments, input_tokens_max_, output_tokens,
                               id_.unix_ms());
    };
    extension_ = {id_, static_cast<std::uint16_t>(extensions_ + 1), amount_of(reserved + tokens) - amount_of(reserved),
                  tokens};
    admission_.take(extension_);
    const auto ticket = lane_.meter.submit(extension_, !extension_.from_slices);
    if (!ticket) {
      admission_.undo(extension_);
      why_ = {};
      co_return false;
    }
    extension_ticket_ = *ticket;
    if (extension_.from_slices || co_await extended()) break;
    if (tokens <= least) co_return false;
  }
  ++extensions_;
  lane_.metrics.extensions.add();
  tranches_->extend(extension_.output_tokens);
  output_tokens_max_ = tranches_->reserved();
  co_return true;
}

// The ledger's word on the latest extension; none is as good as yes.
asio::awaitable<bool> Exchange::extended() {
  if (extension_ticket_ == 0) co_return true;
  const std::uint64_t ticket = std::exchange(extension_ticket_, 0);
  const auto durable = co_await lane_.meter.durable(ticket);
  if (durable) co_return true;
  why_ = lane_.meter.refusal(ticket);
  admission_.undo(extension_);
  co_return false;
}

// After the end was submitted: the slices get back what the request did not cost, or all if the ledger never had it.
asio::awaitable<void> Exchange::release() {
  const auto stands = co_await reserved();
  if (!stands) {
    admission_.put_back();
    co_return;
  }
  co_await extended();
  admission_.give();
}

asio::awaitable<AttemptEnd> Exchange::attempt() {
  const Snapshot& snapshot = *request_.snapshot;
  const std::uint32_t index = plan_.deployments[next_];
  const Deployment& deployment = snapshot.routing->deployments()[index];
  const Provider& provider = snapshot.routing->provider_of(index);
  auto upstream = write_upstream_request(provider.dialect, request_.caller, deployment.model,
                                         output_tokens_bound(request_.caller.head, snapshot.serving));
  if (!upstream) {
    UpstreamFailure failure;
    failure.status = AttemptStatus::refused;
    failure.http_status = 400;
    failure.message = upstream.error().message;
    failure.caller_body = openai_error_body(failure.message, "invalid_request_error",
                                            is(upstream.error(), DialectError::unsupported) ? "unsupported" : "");
    co_return AttemptEnd{AttemptStatus::refused, std::move(failure), false};
  }
  ++attempts_;
  lane_.metrics.attempts.add();
  deployment_name_ = deployment.name;
  attempt_started_ns_ = lane_.clock.monotonic_ns();
  first_event_ms_ = 0;
  reader_.reset();
  std::array<http::HeaderField, upstream_headers_max> headers;
  check(upstream->headers.size() < headers.size(), "a dialect writes more headers than upstream_headers_max");
  std::size_t count = upstream->headers.size();
  std::copy(upstream->headers.begin(), upstream->headers.end(), headers.begin());
  const CredentialHeader& credential = provider.credential;
  if (!credential.value.empty()) headers[count++] = {credential.name, credential.value};

  http::ClientTimeouts timeouts = deployment.timeouts;
  timeouts.connect_ms = std::min(timeouts.connect_ms, std::max(left_ms(), 1U));
  timeouts.first_byte_ms = std::min(timeouts.first_byte_ms, std::max(left_ms(), 1U));
  auto response = co_await lane_.client.request(provider.origin, "POST", upstream->path, std::span(headers.data(), count),
                                                upstream->body.pieces(), timeouts, &cancellation_);
  upstream->body = UpstreamBody();  // it is sent, and a stream may stay open for long
  if (!response) co_return broken(response.error());
  if ((*response)->status() != 200) co_return co_await read_error(**response, provider.dialect);
  reader_ = make_answer_reader(provider.dialect,
                               AnswerContext{request_.form, request_.caller.head.include_usage, id_text(),
                                             lane_.clock.wall_ms() / 1000, request_.caller.head.model});
  co_return co_await read_answer(**response, deployment.timeouts);
}

asio::awaitable<AttemptEnd> Exchange::read_answer(http::ClientResponse& response, const http::ClientTimeouts& timeouts) {
  while (true) {
    const bool holding_back = first_event_ms_ == 0;
    const std::uint32_t left = holding_back ? content_left_ms(timeouts) : timeouts.idle_ms;
    if (left == 0) co_return broken(Error{"http", 0, "the provider sent no content in time"});  // but it sent comments
    response.limit_wait(std::min(left, timeouts.idle_ms));
    const auto piece = co_await response.read();
    if (!piece) co_return broken(piece.error());
    const bool ended = piece->empty();
    const auto step = ended ? reader_->finish() : reader_->feed(*piece);
    if (!step) co_return broken(Error{"http", 0, "the provider broke its own dialect: " + step.error().message});
    if (step->failure) {
      UpstreamFailure failure = *step->failure;
      if (begun_) {
        const auto forwarded = co_await forward(*step);  // what came before the error in the same read
        if (!forwarded) lose_caller();
      }
      co_return failed(std::move(failure));
    }
    if (step->done) co_return co_await complete(*step);
    if (ended) co_return broken(Error{"http", 0, "the answer ended before it was complete"});
    if (spend_.due()) spend_.progress(line(AttemptEnd{}));
    const auto forwarded = co_await forward(*step);
    if (forwarded) {
      if (tranches_ && tranches_->due(reader_->content_bytes()) && !co_await extend()) co_return out_of_budget();
      continue;
    }
    if (forwarded.error().module != error_module<http::HttpError>) co_return co_await end_unmetered(forwarded.error());
    lose_caller();
    if (!route_->policy.drain_on_disconnect) co_return broken(forwarded.error());
  }
}

asio::awaitable<AttemptEnd> Exchange::read_error(http::ClientResponse& response, Dialect dialect) {
  std::string body;
  while (body.size() < error_body_bytes_max) {
    const auto piece = co_await response.read();
    if (!piece || piece->empty()) break;  // a cut error body still tells its status
    body.append(piece->substr(0, error_body_bytes_max - body.size()));
  }
  co_return failed(read_failure(dialect, response.status(), body, response.header("retry-after"),
                                response.header("retry-after-ms"), response.header("x-should-retry")));
}

// Gives the caller what has come. The reader holds back: nothing comes before the first content.
asio::awaitable<Result<void>> Exchange::forward(const AnswerStep& step) {
  if (step.content) note_first_content();
  if (gone_ || (step.bytes.empty() && step.events.empty())) co_return Result<void>{};
  if (!begun_) {
    // Nothing is told before it is durable: the provider has begun to bill.
    if (!is_reserved()) {
      auto durable = co_await reserved();
      if (!durable) co_return durable;
    }
    begun_ = true;
    auto begin = co_await sink_.begin(head());
    if (!begin) co_return begin;
  }
  co_return co_await sink_.pass(step.bytes, step.events);
}

// The answer is complete: settle, wait until the reservation is on disk, and only then let the caller see the end.
asio::awaitable<AttemptEnd> Exchange::complete(const AnswerStep& last) {
  AttemptEnd end;
  if (gone_) end.status = AttemptStatus::caller_gone;
  note_first_content();
  settle(end);
  if (!is_reserved()) {
    const auto durable = co_await reserved();
    if (!durable) co_return co_await end_unmetered(durable.error());
  }
  if (admission_.holds()) co_await release();
  lane_.metrics.duration_ms.add(elapsed_ms(started_ns_));
  if (gone_) co_return end;
  Result<void> sent;
  if (request_.form == CallerForm::openai_whole) {
    sent = co_await sink_.whole(head(), last.bytes);
  } else {
    if (!begun_) sent = co_await sink_.begin(head());
    begun_ = true;
    if (sent) sent = co_await sink_.end(last.bytes, last.events);
  }
  if (sent) {
    lane_.metrics.answered.add();
  } else {
    lose_caller();
  }
  co_return end;
}

// No answer, a cut or a time-out.
AttemptEnd Exchange::broken(const Error& error) const {
  UpstreamFailure failure;
  failure.status = AttemptStatus::overloaded;
  failure.retry_same = true;
  failure.type = "upstream_unavailable";
  failure.message = error.message;
  return failed(std::move(failure));
}

AttemptEnd Exchange::failed(UpstreamFailure failure) const {
  if (begun_) failure.message.insert(0, "the provider failed in mid-answer: ");
  const AttemptStatus status = gone_    ? AttemptStatus::caller_gone
                               : begun_ ? AttemptStatus::cut
                                        : failure.status;
  return AttemptEnd{status, std::move(failure), true};
}

AttemptEnd Exchange::out_of_budget() const {
  UpstreamFailure failure;
  failure.over_budget = true;
  failure.message = "the answer is cut short: ";
  failure.message += why_.shortfall ? budget_message(*why_.shortfall) : "the ledger took no further reservation for it";
  return AttemptEnd{gone_ ? AttemptStatus::caller_gone : AttemptStatus::cut, std::move(failure), true};
}

AttemptLine Exchange::line(const AttemptEnd& end) const {
  AttemptFacts facts;
  facts.number = attempts_;
  facts.status = end.status;
  if (end.failure) facts.http_status = static_cast<std::uint16_t>(end.failure->http_status);
  if (reader_) {
    if (facts.http_status == 0) facts.http_status = 200;
    facts.usage = reader_->usage();
    facts.content_bytes = reader_->content_bytes();
    facts.terms = reader_->terms();
  }
  facts.input_bytes = request_.input_bytes;
  facts.output_tokens_max = output_tokens_max_;
  facts.first_event_ms = first_event_ms_;
  facts.duration_ms = elapsed_ms(attempt_started_ns_);
  return make_attempt_line(*request_.snapshot, plan_.deployments[next_], id_, facts);
}

void Exchange::settle(const AttemptEnd& end) {
  if (settled_) return;
  settled_ = true;
  AttemptLine attempt = line(end);
  rates_.used(attempt.usage);
  rates_.end();
  if (attempt.estimated()) lane_.metrics.usage_estimated.add();
  admission_.charge(attempt);
  if (!submit(Settlement{std::move(attempt)})) admission_.abandon();
}

bool Exchange::submit(MeteringOperation operation) {
  spend_.note(operation);
  const auto ticket = lane_.meter.submit(std::move(operation), false);
  // The reservation stays open and is settled as in doubt when the next incarnation starts.
  if (!ticket) log::error("ledger_refused", {{"request_id", id_text()}, {"error", ticket.error().message}});
  return ticket.has_value();
}

void Exchange::lose_caller() {
  if (gone_) return;
  gone_ = true;
  lane_.metrics.callers_gone.add();
}

void Exchange::note_first_content() {
  if (first_event_ms_ != 0) return;
  first_event_ms_ = std::max(1U, elapsed_ms(attempt_started_ns_));
  lane_.metrics.first_content_ms.add(elapsed_ms(started_ns_));
}

AnswerHead Exchange::head() const { return {id_text(), deployment_name_, attempts_, rates_.standing()}; }

std::uint32_t Exchange::elapsed_ms(std::int64_t since_ns) const {
  return static_cast<std::uint32_t>((lane_.clock.monotonic_ns() - since_ns) / 1'000'000);
}

std::uint32_t Exchange::left_ms() const { return deadline_ms_ - std::min(deadline_ms_, elapsed_ms(started_ns_)); }

std::uint32_t Exchange::content_left_ms(const http::ClientTimeouts& timeouts) const {
  if (request_.form == CallerForm::openai_whole) return left_ms();  // all of it comes at once, at the end
  const std::uint32_t elapsed = elapsed_ms(attempt_started_ns_);
  return std::min(left_ms(), timeouts.first_byte_ms - std::min(timeouts.first_byte_ms, elapsed));
}

asio::awaitable<void> run_exchange(LaneServices& lane, CallerSink& sink, ExchangeRequest request) {
  struct UnderWay {
    explicit UnderWay(LaneMetrics& lane_metrics) : metrics(lane_metrics) { metrics.requests_in_flight.add(); }
    ~UnderWay() { metrics.requests_in_flight.subtract(); }
    LaneMetrics& metrics;
  };
  const UnderWay under_way(lane.metrics);
  lane.metrics.requests.add();
  Exchange exchange(lane, sink, std::move(request));
  co_await exchange.run();
}

}  // namespace outlast::gateway
