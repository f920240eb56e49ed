#include "apps/outlast-sim/lane.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/json_writer.hpp"

namespace outlast::sim {
namespace {

constexpr std::size_t prepared_max = 256;  // answers kept by a lane
constexpr std::size_t prepared_body_bytes_max =
    64 * 1024;  // larger requests are read anew each time

// The provider's name for an error of this status.
ApiError error_for(Dialect dialect, unsigned status, std::string message) {
  ApiError error{status, "", "", "", std::move(message)};
  if (dialect == Dialect::openai) {
    error.type = status == 429   ? "requests"
                 : status >= 500 ? "server_error"
                                 : "invalid_request_error";
    if (status == 401) error.code = "invalid_api_key";
    if (status == 402) error.type = error.code = "insufficient_quota";
    if (status == 404) error.code = "model_not_found";
    if (status == 429) error.code = "rate_limit_exceeded";
    return error;
  }
  constexpr std::pair<unsigned, const char*> types[] = {{401, "authentication_error"},
                                                        {402, "billing_error"},
                                                        {403, "permission_error"},
                                                        {404, "not_found_error"},
                                                        {413, "request_too_large"},
                                                        {429, "rate_limit_error"},
                                                        {500, "api_error"},
                                                        {504, "timeout_error"},
                                                        {529, "overloaded_error"}};
  error.type = status >= 500 ? "api_error" : "invalid_request_error";
  for (const auto& [known, type] : types) {
    if (known == status) error.type = type;
  }
  return error;
}

ApiError error_of(const Fault& fault, Dialect dialect, unsigned status) {
  ApiError error = error_for(dialect, status, "The simulator was told to fail.");
  if (!fault.type.empty()) error.type = fault.type;
  if (!fault.code.empty()) error.code = fault.code;
  if (!fault.message.empty()) error.message = fault.message;
  return error;
}

Rendered render(Dialect dialect, const SimRequest& request, const SimAnswer& answer,
                const RenderOptions& options) {
  return dialect == Dialect::openai ? render_openai(request, answer, options)
                                    : render_anthropic(request, answer, options);
}

}  // namespace

// What a body leads to.
struct SimLane::Prepared {
  std::shared_ptr<const std::string> body;
  std::optional<ApiError> error;
  SimRequest request;
  SimAnswer answer;
  Rendered rendered;
};

SimLane::SimLane(SimShared& shared)
    : shared_(shared),
      chat_path_(shared.options.dialect == Dialect::openai ? "/v1/chat/completions"
                                                           : "/v1/messages") {}

std::unique_ptr<http::Server> SimLane::make_server() {
  http::ServerOptions options;
  options.error_body = [this](unsigned status, http::HttpError, std::string_view message) {
    return error_body(error_for(shared_.options.dialect, status, std::string(message)), 0);
  };
  return std::make_unique<http::Server>(context_, std::move(options),
                                        [this](http::Request& request, http::Response& response) {
                                          return handle(request, response);
                                        });
}

Result<std::uint16_t> SimLane::listen(const std::string& address) {
  std::erase_if(closing_,
                [](const auto& server) { return server->counters().connections_open == 0; });
  server_ = make_server();
  return server_->listen(address);
}

Result<std::uint16_t> SimLane::listen_control(const std::string& address) {
  control_ = make_server();
  return control_->listen(address);
}

void SimLane::stop_listening() {
  if (!server_) return;
  server_->drain();
  closing_.push_back(std::move(server_));
}

void SimLane::stop() {
  if (server_) server_->close();
  if (control_) control_->close();
  for (const auto& server : closing_) server->close();
  context_.stop();
}

SimStats::Connections SimLane::connections() const {
  SimStats::Connections sum;
  if (server_) {
    sum.accepted += server_->counters().connections_accepted;
    sum.open += server_->counters().connections_open;
  }
  return sum;
}

bool SimLane::authorised(const http::Request& request) const {
  if (shared_.options.api_key.empty()) return true;
  std::string_view key = request.header("authorization");
  constexpr std::string_view bearer = "Bearer ";
  key = key.starts_with(bearer) ? key.substr(bearer.size()) : std::string_view();
  if (shared_.options.dialect == Dialect::anthropic && key.empty())
    key = request.header("x-api-key");
  return key == shared_.options.api_key;
}

std::string SimLane::error_body(const ApiError& error, std::uint64_t id) const {
  return shared_.options.dialect == Dialect::openai ? openai_error(error)
                                                    : anthropic_error(error, "req_" + hex16(id));
}

std::shared_ptr<const SimLane::Prepared> SimLane::prepare(std::string_view body) {
  if (const auto found = prepared_.find(body); found != prepared_.end()) return found->second;
  const SimOptions& options = shared_.options;
  auto prepared = std::make_shared<Prepared>();
  prepared->body = std::make_shared<const std::string>(body);
  auto read = options.dialect == Dialect::openai ? read_openai_request(body, options.models)
                                                 : read_anthropic_request(body, options.models);
  if (read) {
    prepared->request = std::move(*read);
    prepared->answer =
        make_answer(prepared->request, options.dialect, options.tokens, options.seed);
    prepared->rendered = render(options.dialect, prepared->request, prepared->answer,
                                {options.chunk_tokens, UsageReport::exact});
  } else {
    prepared->error = std::move(read.error());
  }
  if (body.size() <= prepared_body_bytes_max) {
    if (prepared_.size() >= prepared_max) prepared_.clear();
    prepared_.emplace(std::string_view(*prepared->body), prepared);
  }
  return prepared;
}

asio::awaitable<void> SimLane::send_json(unsigned status, std::string_view body,
                                         http::Response& response) {
  const http::HeaderField headers[] = {json_type};
  co_await response.send(status, headers, body);
}

asio::awaitable<void> SimLane::send_error(const ApiError& error, std::uint64_t id,
                                          http::Response& response, const Fault* fault) {
  const std::string request_id = "req_" + hex16(id);
  const std::string body = error_body(error, id);
  std::string retry_after;
  std::vector<http::HeaderField> headers{json_type};
  headers.push_back(
      {shared_.options.dialect == Dialect::openai ? "x-request-id" : "request-id", request_id});
  if (fault != nullptr && fault->retry_after_s) {
    retry_after = std::to_string(*fault->retry_after_s);
    headers.push_back({"retry-after", retry_after});
  }
  shared_.stats.count_status(error.status);
  co_await response.send(error.status, headers, body);
}

asio::awaitable<void> SimLane::handle(http::Request& request, http::Response& response) {
  const SimOptions& options = shared_.options;
  const std::string_view path = request.path();
  const bool get = request.method == "GET";
  if (path == chat_path_ && request.method == "POST") {
    co_await chat(request, response);
  } else if (path == "/v1/models" && get) {
    const std::string body = options.dialect == Dialect::openai ? openai_models(options.models)
                                                                : anthropic_models(options.models);
    co_await send_json(200, body, response);
  } else if (path == "/sim/stats" && get) {
    const std::string body = shared_.stats.describe(connections());
    co_await send_json(200, body, response);
  } else if (path == "/sim/faults") {
    co_await faults_endpoint(request, response);
  } else {
    const ApiError error =
        error_for(options.dialect, 404,
                  "Unknown request URL: " + std::string(request.method) + " " + std::string(path));
    co_await send_error(error, 0, response);
  }
}

asio::awaitable<void> SimLane::faults_endpoint(http::Request& request, http::Response& response) {
  if (request.method == "POST" || request.method == "DELETE") {
    auto faults = read_faults(request.method == "POST" ? request.body : std::string_view("[]"));
    if (!faults) {
      std::string body;
      JsonWriter(body).begin_object().key("error").string(faults.error()).end_object();
      co_await send_json(400, body, response);
      co_return;
    }
    shared_.faults.replace(*faults);
    shared_.on_faults_replaced(*faults);
  }
  const std::string body = shared_.faults.describe();
  co_await send_json(200, body, response);
}

asio::awaitable<void> SimLane::chat(http::Request& request, http::Response& response) {
  const std::shared_ptr<const Prepared> prepared = prepare(request.body);
  shared_.stats.count_request(request, prepared->body);
  const std::uint64_t id = prepared->request.content_hash;
  if (!authorised(request)) {
    const ApiError error = error_for(shared_.options.dialect, 401, "Incorrect API key provided.");
    co_await send_error(error, id, response);
    co_return;
  }
  if (shared_.options.dialect == Dialect::anthropic &&
      request.header("anthropic-version").empty()) {
    const ApiError error =
        error_for(Dialect::anthropic, 400, "anthropic-version: header is required");
    co_await send_error(error, id, response);
    co_return;
  }
  if (prepared->error) {
    co_await send_error(*prepared->error, id, response);
    co_return;
  }
  if (const std::optional<Fault> fault = shared_.faults.take(prepared->request.model)) {
    shared_.stats.count_fault();
    co_await faulty(*prepared, *fault, response);
    co_return;
  }
  const Performance performance = performance_of(*prepared);
  co_await give(performance, response);
}

Performance SimLane::performance_of(const Prepared& prepared) const {
  Performance performance;
  performance.rendered = &prepared.rendered;
  performance.dialect = shared_.options.dialect;
  performance.stream = prepared.request.stream;
  performance.id = prepared.request.content_hash;
  performance.first_token_ms = shared_.options.first_token_ms;
  performance.tokens_per_s = shared_.options.tokens_per_s;
  return performance;
}

asio::awaitable<void> SimLane::faulty(const Prepared& prepared, const Fault& fault,
                                      http::Response& response) {
  const SimOptions& options = shared_.options;
  Performance performance = performance_of(prepared);
  Rendered changed;
  switch (fault.kind) {
    case FaultKind::status: {
      const ApiError error = error_of(fault, options.dialect, fault.status);
      co_await send_error(error, performance.id, response, &fault);
      co_return;
    }
    case FaultKind::error_first_event: {
      const unsigned status = options.dialect == Dialect::openai ? 503 : 529;
      const ApiError error = error_of(fault, options.dialect, status);
      changed.whole = error_body(error, performance.id);
      const std::string event = options.dialect == Dialect::openai
                                    ? openai_error_event(error)
                                    : anthropic_error_event(error, "req_" + hex16(performance.id));
      changed.pieces.push_back({event, 0, false});
      performance.rendered = &changed;
      break;
    }
    case FaultKind::close:
      response.cut();
      co_return;
    case FaultKind::cut:
      performance.cut_after = fault.after_tokens.value_or(prepared.answer.usage.output / 2);
      break;
    case FaultKind::stall:
      performance.stall = true;
      performance.stall_after = fault.after_tokens;
      performance.stall_ms = fault.stall_ms == 0 ? stall_ms_max : fault.stall_ms;
      break;
    case FaultKind::slow:
      performance.first_token_ms = fault.first_token_ms;
      performance.tokens_per_s = fault.tokens_per_s;
      break;
    case FaultKind::wrong_usage: {
      SimAnswer answer = prepared.answer;
      answer.usage.input *= fault.factor;
      answer.usage.output *= fault.factor;
      changed = render(options.dialect, prepared.request, answer,
                       {options.chunk_tokens, UsageReport::exact});
      changed.tokens = prepared.rendered.tokens;  // the pace stays
      performance.rendered = &changed;
      break;
    }
    case FaultKind::missing_usage:
      changed = render(options.dialect, prepared.request, prepared.answer,
                       {options.chunk_tokens, UsageReport::missing});
      performance.rendered = &changed;
      break;
    case FaultKind::refuse:
      break;
  }
  co_await give(performance, response);
}

asio::awaitable<void> SimLane::give(const Performance& performance, http::Response& response) {
  shared_.stats.add_active(1);
  if (performance.stream) shared_.stats.count_stream();
  const bool completed = co_await perform(context_, performance, response);
  shared_.stats.add_active(-1);
  if (completed) {
    shared_.stats.count_completed();
    shared_.stats.count_status(200);
  } else {
    if (!performance.cut_after) shared_.stats.count_cancelled();
    response.cut();
  }
}

}  // namespace outlast::sim
