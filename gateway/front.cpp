#include "gateway/front.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string>
#include <utility>

#include "core/json_writer.hpp"
#include "gateway/idempotency.hpp"
#include "gateway/reservation_refusal.hpp"
#include "gateway/rate_headers.hpp"

namespace outlast::gateway {
namespace {

constexpr http::HeaderField json_type{"content-type", "application/json"};
constexpr http::HeaderField stream_type{"content-type", "text/event-stream; charset=utf-8"};

class Digits {
 public:
  explicit Digits(std::uint32_t value) { end_ = std::to_chars(text_.data(), text_.data() + text_.size(), value).ptr; }
  [[nodiscard]] std::string_view view() const { return {text_.data(), static_cast<std::size_t>(end_ - text_.data())}; }

 private:
  std::array<char, 10> text_;
  char* end_;
};

// The answer of an exchange as an HTTP response.
class HttpSink final : public CallerSink {
 public:
  explicit HttpSink(http::Response& response) : response_(response) {}

  asio::awaitable<Result<void>> begin(const AnswerHead& head) override {
    const Digits attempts(head.attempts);
    const RateHeaders rates(head.rates);
    std::array<http::HeaderField, 7 + RateHeaders::fields_max> headers = {{
        stream_type,
        {"cache-control", "no-cache"},
        {"x-accel-buffering", "no"},
        {"x-request-id", head.request_id},
        {"x-outlast-request-id", head.request_id},
        {"x-outlast-deployment", head.deployment},
        {"x-outlast-attempts", attempts.view()}}};
    const std::size_t count = rates.append(headers, 7);
    co_return co_await response_.start(200, std::span(headers.data(), count));
  }

  asio::awaitable<Result<void>> pass(std::string_view bytes, std::span<const chat::Event>) override {
    return response_.write(bytes);
  }
  asio::awaitable<Result<void>> end(std::string_view bytes, std::span<const chat::Event>) override {
    return response_.finish(bytes);
  }

  asio::awaitable<Result<void>> whole(const AnswerHead& head, std::string_view body) override {
    const Digits attempts(head.attempts);
    const RateHeaders rates(head.rates);
    std::array<http::HeaderField, 5 + RateHeaders::fields_max> headers = {{
        json_type,
        {"x-request-id", head.request_id},
        {"x-outlast-request-id", head.request_id},
        {"x-outlast-deployment", head.deployment},
        {"x-outlast-attempts", attempts.view()}}};
    const std::size_t count = rates.append(headers, 5);
    co_return co_await response_.send(200, std::span(headers.data(), count), body);
  }

  asio::awaitable<void> refuse(const Refusal& refusal) override {
    const Digits attempts(refusal.head.attempts);
    const Digits retry_after(refusal.retry_after_s.value_or(0));
    const Digits retry_after_ms(refusal.retry_after_ms.value_or(0));
    const RateHeaders rates(refusal.head.rates);
    std::array<http::HeaderField, 8 + RateHeaders::fields_max> headers;
    std::size_t count = 0;
    headers[count++] = json_type;
    headers[count++] = {"x-should-retry", refusal.should_retry ? "true" : "false"};
    headers[count++] = {"x-request-id", refusal.head.request_id};
    headers[count++] = {"x-outlast-request-id", refusal.head.request_id};
    headers[count++] = {"x-outlast-attempts", attempts.view()};
    if (!refusal.head.deployment.empty()) headers[count++] = {"x-outlast-deployment", refusal.head.deployment};
    if (refusal.retry_after_s) headers[count++] = {"retry-after", retry_after.view()};
    if (refusal.retry_after_ms) headers[count++] = {"retry-after-ms", retry_after_ms.view()};
    count = rates.append(headers, count);
    const auto sent = co_await response_.send(refusal.status, std::span(headers.data(), count), refusal.body);
    static_cast<void>(sent);  // the caller is gone: nobody is left to tell
  }

  asio::awaitable<void> break_off(const UpstreamFailure& failure) override {
    const std::string event = failure.over_budget
                                  ? openai_error_event(failure.message, "insufficient_quota", budget_exhausted_code)
                                  : openai_error_event(failure.message, "server_error", "upstream_cut");
    const auto sent = co_await response_.write(event);
    static_cast<void>(sent);
    response_.cut();
  }

  void on_gone(std::function<void()> callback) override { response_.on_disconnect(std::move(callback)); }

 private:
  http::Response& response_;
};

asio::awaitable<void> send_error(http::Response& response, unsigned status, std::string_view message,
                                 std::string_view type, std::string_view code, http::HeaderField extra = {}) {
  std::array<http::HeaderField, 3> headers = {json_type, {"x-should-retry", "false"}, extra};
  const std::string body = openai_error_body(message, type, code);
  const auto sent = co_await response.send(status, std::span(headers.data(), extra.name.empty() ? 2 : 3), body);
  static_cast<void>(sent);
}

asio::awaitable<void> send_status(http::Response& response, bool good) {
  const auto sent = co_await response.send(good ? 200 : 503, std::span(&json_type, 1),
                                           good ? R"({"status":"ok"})" : R"({"status":"not ready"})");
  static_cast<void>(sent);
}

std::string_view bearer_of(const http::Request& request) {
  const std::string_view authorization = request.header("authorization");
  constexpr std::string_view scheme = "bearer ";
  if (authorization.size() > scheme.size() &&
      http::equal_ignoring_case(authorization.substr(0, scheme.size()), scheme)) {
    return authorization.substr(authorization.find_first_not_of(' ', scheme.size() - 1));
  }
  return request.header("x-api-key");
}

}  // namespace

asio::awaitable<void> Front::handle(http::Request& request, http::Response& response) {
  const std::string_view path = request.path();
  if (path == "/v1/chat/completions") {
    if (request.method == "POST") return chat_completions(request, response);
    return send_error(response, 405, "use POST for /v1/chat/completions", "invalid_request_error", "method_not_allowed",
                      {"allow", "POST"});
  }
  if (path == "/v1/models" || path.starts_with("/v1/models/")) return models(request, response);
  if (path == "/healthz") return send_status(response, true);
  if (path == "/readyz") return send_status(response, ready_() && snapshots_.get() != nullptr);
  return send_error(response, 404,
                    "no such path; this gateway serves POST /v1/chat/completions, GET /v1/models, GET /healthz, GET /readyz",
                    "invalid_request_error", "not_found");
}

asio::awaitable<void> Front::chat_completions(http::Request& request, http::Response& response) {
  ExchangeRequest exchange;
  exchange.snapshot = snapshots_.get();
  exchange.key = authenticate(request);
  if (!exchange.key) {
    co_await send_error(response, 401,
                        "no valid virtual key; send one as 'Authorization: Bearer ol_…' (an administrator makes it with "
                        "'outlast key create')",
                        "invalid_request_error", "invalid_api_key", {"www-authenticate", "Bearer"});
    co_return;
  }
  auto head = scanner_.scan(request.body);
  if (!head) {
    co_await send_error(response, 400, head.error().message, "invalid_request_error",
                        is(head.error(), DialectError::malformed_json) ? "malformed_json" : "invalid_request");
    co_return;
  }
  exchange.form = head->stream ? CallerForm::openai_stream : CallerForm::openai_whole;
  exchange.caller.openai_body = request.body;
  exchange.caller.head = std::move(*head);
  exchange.input_bytes = request.body.size();
  auto labels = RequestLabels::parse(request.header("x-outlast-tags"), request.header("x-outlast-session"));
  if (!labels) {
    co_await send_error(response, 400, labels.error().message, "invalid_request_error", "invalid_label");
    co_return;
  }
  exchange.labels = std::move(*labels);
  HttpSink sink(response);
  const std::string_view repeatable = request.header("idempotency-key");
  if (repeatable.empty() || lane_.answers == nullptr) {
    co_await run_exchange(lane_, sink, std::move(exchange));
    co_return;
  }
  const auto key = idempotency_key(exchange.key->id, repeatable, request.body);
  if (!key) {
    co_await send_error(response, 400, key.error().message, "invalid_request_error", "invalid_idempotency_key");
    co_return;
  }
  const bool replayed = co_await replay(*lane_.answers, *key, lane_, sink, response);
  if (replayed) co_return;
  exchange.idempotency = *key;
  IdempotentSink keeping(sink, response, lane_, *lane_.answers, *key);
  co_await run_exchange(lane_, keeping, std::move(exchange));
}

asio::awaitable<void> Front::models(http::Request& request, http::Response& response) {
  if (request.method != "GET") {
    co_await send_error(response, 405, "use GET for /v1/models", "invalid_request_error", "method_not_allowed",
                        {"allow", "GET"});
    co_return;
  }
  const auto snapshot = snapshots_.get();
  if (!authenticate(request)) {
    co_await send_error(response, 401, "no valid virtual key; send one as 'Authorization: Bearer ol_…'",
                        "invalid_request_error", "invalid_api_key", {"www-authenticate", "Bearer"});
    co_return;
  }
  std::string_view wanted = request.path();
  wanted.remove_prefix(std::min(wanted.size(), std::string_view("/v1/models/").size()));
  std::string body;
  JsonWriter json(body);
  const auto write_model = [&json](const ResolvedRoute& route) {
    json.begin_object().key("id").string(route.name).key("object").string("model").key("created").number(0);
    json.key("owned_by").string("outlast").end_object();
  };
  if (!wanted.empty()) {
    const ResolvedRoute* route = snapshot->routing->find(wanted);
    if (route == nullptr) {
      co_await send_error(response, 404, "no such model; GET /v1/models lists them", "invalid_request_error",
                          "model_not_found");
      co_return;
    }
    write_model(*route);
  } else {
    json.begin_object().key("object").string("list").key("data").begin_array();
    for (const auto& [name, route] : snapshot->routing->routes()) write_model(route);
    json.end_array().end_object();
  }
  const auto sent = co_await response.send(200, std::span(&json_type, 1), body);
  static_cast<void>(sent);
}

std::shared_ptr<const VirtualKey> Front::authenticate(const http::Request& request) {
  const auto& snapshot = snapshots_.get();
  auto key = snapshot ? snapshot->keys->find(bearer_of(request)) : nullptr;
  if (!key) lane_.metrics.unauthorised.add();
  return key;
}

std::string protocol_error_body(unsigned status, http::HttpError code, std::string_view message) {
  std::string_view name = "bad_request";
  if (code == http::HttpError::head_too_large) name = "head_too_large";
  if (code == http::HttpError::body_too_large) name = "body_too_large";
  if (code == http::HttpError::timed_out) name = "request_timeout";
  if (status == 503) name = "too_many_connections";
  if (status == 500) name = "internal_error";
  return openai_error_body(message, status >= 500 ? "server_error" : "invalid_request_error", name);
}

}  // namespace outlast::gateway
