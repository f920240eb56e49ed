#include "gateway/dialect.hpp"

#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gateway/anthropic_request.hpp"
#include "gateway/openai_request.hpp"

namespace outlast::gateway {
namespace {

constexpr http::HeaderField openai_headers[] = {{"content-type", "application/json"}};
constexpr http::HeaderField anthropic_headers[] = {{"content-type", "application/json"},
                                                   {"anthropic-version", "2023-06-01"}};

Result<std::string> write_anthropic_body(const CallerRequest& request, std::string_view model,
                                         std::uint64_t output_tokens_max) {
  if (request.typed != nullptr)
    return write_anthropic_request(*request.typed, true, model, output_tokens_max);
  auto typed = read_openai_request(request.openai_body);
  if (!typed) return fail(std::move(typed.error()));
  return write_anthropic_request(*typed, typed->stream, model, output_tokens_max);
}

}  // namespace

UpstreamBody::UpstreamBody(std::string written) : written_(std::move(written)) {
  if (!written_.empty()) parts_[count_++].written_end = written_.size();
}

void UpstreamBody::pass(std::string_view bytes) {
  check(count_ < parts_max, "a body has at most parts_max parts");
  parts_[count_++] = {bytes, written_.size()};
}

void UpstreamBody::write(std::string_view text) {
  if (count_ == 0) pass({});
  written_ += text;
  parts_[count_ - 1].written_end = written_.size();
}

http::BodyPieces UpstreamBody::pieces() const {
  http::BodyPieces pieces;
  std::size_t from = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    pieces.add(parts_[i].passed);
    pieces.add(std::string_view(written_).substr(from, parts_[i].written_end - from));
    from = parts_[i].written_end;
  }
  return pieces;
}

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
  if (dialect == Dialect::openai && request.typed == nullptr) {
    return UpstreamRequest{
        "/chat/completions", openai_headers,
        rewrite_openai_request(request.openai_body, request.head, model, output_tokens_max)};
  }
  auto body = dialect == Dialect::openai
                  ? write_openai_request(*request.typed, model, output_tokens_max)
                  : write_anthropic_body(request, model, output_tokens_max);
  if (!body) return fail(std::move(body.error()));
  if (dialect == Dialect::openai)
    return UpstreamRequest{"/chat/completions", openai_headers, UpstreamBody(std::move(*body))};
  return UpstreamRequest{"/messages", anthropic_headers, UpstreamBody(std::move(*body))};
}

CredentialHeader credential_header(Dialect dialect, std::string_view api_key) {
  if (api_key.empty()) return {};
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
