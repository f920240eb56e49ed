#include "actors/message_call.hpp"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace outlast::actors {
namespace {

namespace asio = boost::asio;
using gateway::AnswerHead;
using link::ErrorKind;

Failure caller_gone() { return fail(http::HttpError::closed, "the client is gone"); }

// What the network thread tells the lane about a call. Lives as long as either side needs it; touched on the lane.
struct Signals {
  explicit Signals(asio::any_io_executor lane_executor) : executor(lane_executor), credit(lane_executor) {
    credit.expires_at(std::chrono::steady_clock::time_point::max());
  }
  asio::any_io_executor executor;
  asio::steady_timer credit;  // cancelled when credit came
  bool has_credit = true;
  bool gone = false;
  std::function<void()> on_gone;
};

class MessageSink final : public gateway::CallerSink {
 public:
  MessageSink(std::shared_ptr<cluster::ChatCall> call, asio::any_io_executor executor)
      : call_(std::move(call)), signals_(std::make_shared<Signals>(std::move(executor))) {
    call_->on_credit([signals = signals_] {
      asio::post(signals->executor, [signals] {
        signals->has_credit = true;
        signals->credit.cancel();
      });
    });
    call_->on_cancel([signals = signals_](cluster::CancelReason) {
      asio::post(signals->executor, [signals] {
        signals->gone = true;
        signals->credit.cancel();
        if (auto callback = std::exchange(signals->on_gone, nullptr)) callback();
      });
    });
  }
  ~MessageSink() override { signals_->on_gone = nullptr; }

  asio::awaitable<Result<void>> begin(const AnswerHead& head) override {
    deployment_ = head.deployment;
    attempts_ = head.attempts;
    ledger_id_ = RequestId::parse(head.request_id).value_or(RequestId{});
    co_return signals_->gone ? Result<void>(caller_gone()) : Result<void>{};
  }

  asio::awaitable<Result<void>> pass(std::string_view, std::span<const chat::Event> events) override {
    if (signals_->gone) co_return caller_gone();
    const cluster::SendState state = call_->send(events);
    if (state == cluster::SendState::ended) co_return caller_gone();
    if (state == cluster::SendState::no_credit) {
      signals_->has_credit = call_->has_credit();
      while (!signals_->has_credit && !signals_->gone) {
        const auto [woken] = co_await signals_->credit.async_wait(asio::as_tuple(asio::use_awaitable));
        static_cast<void>(woken);  // cancelled: that is the signal
      }
    }
    co_return signals_->gone ? Result<void>(caller_gone()) : Result<void>{};
  }

  asio::awaitable<Result<void>> end(std::string_view, std::span<const chat::Event> events) override {
    if (!events.empty() && call_->send(events) == cluster::SendState::ended) co_return caller_gone();
    call_->done(deployment_, attempts_, ledger_id_);
    co_return Result<void>{};
  }

  asio::awaitable<Result<void>> whole(const AnswerHead&, std::string_view) override {
    co_return fail(http::HttpError::malformed, "a message call takes events");
  }

  asio::awaitable<void> refuse(const gateway::Refusal& refusal) override {
    ErrorKind kind = ErrorKind::provider_failed;
    const bool conflict = refusal.status == 408 || refusal.status == 409;
    if (refusal.over_budget) kind = ErrorKind::over_budget;
    else if (refusal.status == 404) kind = ErrorKind::unknown_model;
    else if (refusal.status == 429) kind = ErrorKind::rate_limited;
    else if (refusal.status == 402) kind = ErrorKind::over_budget;
    else if (refusal.status < 500 && !conflict) kind = ErrorKind::invalid_request;
    const bool retryable = (refusal.status == 429 && !refusal.over_budget) || refusal.status >= 500 || conflict;
    call_->fail(kind, refusal.message, retryable,
                refusal.retry_after_ms.value_or(refusal.retry_after_s.value_or(0) * 1000));
    co_return;
  }

  asio::awaitable<void> break_off(const gateway::UpstreamFailure& failure) override {
    call_->fail(failure.over_budget ? ErrorKind::over_budget : ErrorKind::cut, failure.message);
    co_return;
  }

  void on_gone(std::function<void()> callback) override {
    if (signals_->gone) callback();
    else signals_->on_gone = std::move(callback);
  }

 private:
  std::shared_ptr<cluster::ChatCall> call_;
  std::shared_ptr<Signals> signals_;
  std::string deployment_;
  std::uint32_t attempts_ = 0;
  RequestId ledger_id_;
};

// UTF-8 and JSON bytes of all that becomes input tokens.
std::uint64_t input_bytes_of(const chat::Request& request) {
  std::uint64_t bytes = request.extra_json.size();
  for (const chat::Message& message : request.messages) {
    bytes += 16;  // the role and the template around it
    for (const chat::Part& part : message.parts) {
      if (const auto* text = std::get_if<chat::Text>(&part)) bytes += text->text.size();
      if (const auto* image = std::get_if<chat::Image>(&part)) bytes += image->data.size() + image->url.size();
      if (const auto* call = std::get_if<chat::ToolCall>(&part)) bytes += call->name.size() + call->arguments.size();
      if (const auto* result = std::get_if<chat::ToolResult>(&part)) bytes += result->content.size();
    }
  }
  for (const chat::Tool& tool : request.tools) {
    bytes += tool.name.size() + tool.description.size() + tool.parameters.size() + 16;
  }
  return bytes;
}

asio::awaitable<void> serve(std::shared_ptr<cluster::ChatCall> call, gateway::LaneServices& services,
                            gateway::SnapshotReader& snapshots) {
  MessageSink sink(call, co_await asio::this_coro::executor);
  gateway::ExchangeRequest exchange;
  exchange.snapshot = snapshots.get();
  exchange.key = call->key();
  exchange.form = gateway::CallerForm::events;
  exchange.caller.typed = &call->request();
  exchange.caller.head.model = call->request().model;
  exchange.caller.head.stream = true;
  exchange.caller.head.include_usage = true;
  exchange.caller.head.max_tokens = call->request().max_tokens;
  exchange.input_bytes = input_bytes_of(call->request());
  auto labels = RequestLabels::check(call->request().tags, call->request().session);
  if (!labels) {
    call->fail(ErrorKind::invalid_request, labels.error().message);
    co_return;
  }
  exchange.labels = std::move(*labels);
  const std::int64_t left_ms = (call->deadline_monotonic_ns() - services.clock.monotonic_ns()) / 1'000'000;
  exchange.deadline_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(left_ms, 1, 3'600'000));
  co_await gateway::run_exchange(services, sink, std::move(exchange));
}

}  // namespace

void serve_message_call(gateway::Lane& lane, std::shared_ptr<cluster::ChatCall> call) {
  lane.run([call = std::move(call)](gateway::LaneServices& services, gateway::SnapshotReader& snapshots) {
    return serve(call, services, snapshots);
  });
}

}  // namespace outlast::actors
