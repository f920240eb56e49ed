// Any bytes as a chat request: the scanner refuses them, or what is sent upstream is valid JSON of the dialect.
#include <cstdint>
#include <string>

#include "core/check.hpp"
#include "gateway/dialect.hpp"
#include "gateway/json_reader.hpp"

using namespace outlast;
using namespace outlast::gateway;

namespace {

std::string padded(std::string_view text) {
  std::string body(text);
  body.append(http::body_padding_bytes, '\0');
  return body;
}

std::string text_of(const UpstreamBody& body) {
  std::string text;
  const http::BodyPieces pieces = body.pieces();
  for (const std::string_view piece : pieces.pieces()) text += piece;
  return text;
}

void check_openai(ChatScanner& scanner, const CallerRequest& request) {
  const auto upstream = write_upstream_request(Dialect::openai, request, "a \"model\"", 77);
  check(upstream.has_value(), "a valid request passes to an openai provider");
  const std::string again = padded(text_of(upstream->body));
  const auto head = scanner.scan(std::string_view(again).substr(0, upstream->body.pieces().size()));
  check(head.has_value(), "what was written is a valid request", head ? "" : head.error().message);
  check(head->model == "a \"model\"", "the model is replaced");
  check(head->stream == request.head.stream && head->choices == request.head.choices, "nothing else changes");
  check(head->max_tokens == request.head.max_tokens.value_or(77), "the output is bounded");
  check(head->include_usage || !head->stream, "a stream is asked for usage");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static ChatScanner scanner;
  const std::string body = padded({reinterpret_cast<const char*>(data), size});
  const std::string_view text = std::string_view(body).substr(0, size);
  const auto head = scanner.scan(text);
  if (!head) {
    check(!head.error().message.empty(), "a refusal says why");
    return 0;
  }
  const CallerRequest request{text, nullptr, *head};
  check_openai(scanner, request);
  if (const auto upstream = write_upstream_request(Dialect::anthropic, request, "claude", 77)) {
    JsonDocument document;
    const std::string body = text_of(upstream->body);
    const auto root = document.parse(body);
    check(root.has_value(), "a translated request is valid JSON", body);
    check((*root)["messages"].is_array() && (*root)["max_tokens"].count().has_value(), "and has what is required");
  }
  return 0;
}
