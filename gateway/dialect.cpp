#include "gateway/dialect.hpp"

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gateway/anthropic_request.hpp"
#include "gateway/openai_request.hpp"

namespace outlast::gateway {
namespace {

constexpr std::string_view anthropic_version = "2023-06-01";

Result<std::string> write_body(Dialect dialect, const CallerRequest& request,
                               std::string_view model, std::uint64_t output_tokens_max) {
  if (dialect == Dialect::openai) {
    if (request.typed != nullptr)
      return write_openai_request(*request.typed, model, output_tokens_max);
    return rewrite_openai_request(request.openai_body, request.head, model, output_tokens_max);
  }
  if (request.typed != nullptr)
    return write_anthropic_request(*request.typed, true, model, output_tokens_max);
  auto typed = read_openai_request(request.openai_body);
  if (!typed) return fail(std::move(typed.error()));
  return write_anthropic_request(*typed, typed->stream, model, output_tokens_max);
}

}  // namespace

std::optional<Dialect> parse_dialect(std::string_view name) {
  if (name == "openai") return Dialect::openai;
  if (name == "anthropic") return Dialect::anthropic;
  return std::nullopt;
}

std::string_view name_of(Dialect dialect) {
  return dialect == Dialect::openai ? "openai" : "anthropic";
}

Result<UpstreamRequest> write_upstream_request(Dialect dialect, const CallerRequest& request,
                                               std::string_view model,
                                               std::uint64_t output_tokens_max) {
  check((request.typed != nullptr) == request.openai_body.empty(),
        "a caller's request has exactly one form");
  auto body = write_body(dialect, request, model, output_tokens_max);
  if (!body) return fail(std::move(body.error()));
  UpstreamRequest upstream;
  upstream.body = std::move(*body);
  upstream.headers.emplace_back("content-type", "application/json");
  if (dialect == Dialect::openai) {
    upstream.path = "/chat/completions";
  } else {
    upstream.path = "/messages";
    upstream.headers.emplace_back("anthropic-version", anthropic_version);
  }
  return upstream;
}

std::pair<std::string, std::string> credential_header(Dialect dialect, std::string_view api_key) {
  if (dialect == Dialect::anthropic) return {"x-api-key", std::string(api_key)};
  return {"authorization", "Bearer " + std::string(api_key)};
}

std::string openai_error_body(std::string_view message, std::string_view type,
                              std::string_view code, std::string_view param) {
  std::string body;
  JsonWriter json(body);
  const auto string_or_null = [&json](std::string_view name, std::string_view text) {
    json.key(name);
    if (text.empty()) json.null();
    else json.string(text);
  };
  json.begin_object().key("error").begin_object().key("message").string(message).key("type").string(
      type);
  string_or_null("param", param);
  string_or_null("code", code);
  json.end_object().end_object();
  return body;
}

std::string openai_error_event(std::string_view message, std::string_view type,
                               std::string_view code) {
  return "data: " + openai_error_body(message, type, code) + "\n\n";
}

}  // namespace outlast::gateway
