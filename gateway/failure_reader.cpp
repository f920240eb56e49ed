// The error table: what a provider's refusal means for retry, failover, the breaker and the caller.
#include "gateway/failure_reader.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <ctime>

#include "core/json_writer.hpp"
#include "gateway/retry_after.hpp"

namespace outlast::gateway {
namespace {

constexpr std::size_t failure_body_bytes_max = 64 * 1024;
constexpr std::size_t message_bytes_max = 2 * 1024;

// An error as the provider put it, whatever the shape.
struct ErrorWords {
  std::string type;
  std::string code;
  std::string message;
  std::string param;
  bool of_dialect = false;  // has the shape of the provider's dialect
};

struct StatusOf {
  std::string_view word;
  unsigned status;
};

// An error inside a 200 has no status of its own.
constexpr StatusOf status_of_word[] = {
    {"invalid_request_error", 400},
    {"authentication_error", 401},
    {"invalid_api_key", 401},
    {"billing_error", 402},
    {"permission_error", 403},
    {"not_found_error", 404},
    {"model_not_found", 404},
    {"request_too_large", 413},
    {"rate_limit_error", 429},
    {"rate_limit_exceeded", 429},
    {"insufficient_quota", 429},
    {"tokens", 429},
    {"requests", 429},
    {"slow_down", 429},
    {"api_error", 500},
    {"server_error", 500},
    {"timeout_error", 504},
    {"overloaded_error", 529},
    {"content_filter", 400},
    {"context_length_exceeded", 400},
};

bool contains(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  return std::search(text.begin(), text.end(), part.begin(), part.end(), same) != text.end();
}

template <std::size_t N>
bool contains_any(std::string_view text, const std::array<std::string_view, N>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [text](std::string_view part) { return contains(text, part); });
}

std::string bounded(std::string_view text) {
  std::size_t end = std::min(text.size(), message_bytes_max);
  // Not through the middle of a character.
  while (end > 0 && end < text.size() && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
    --end;
  return std::string(text.substr(0, end));
}

std::string text_or_number(const JsonValue& value) {
  if (const auto text = value.string()) return bounded(*text);
  return value.type() == JsonType::number ? value.to_json() : std::string();
}

ErrorWords read_words(Dialect dialect, const JsonValue& root) {
  ErrorWords words;
  const JsonValue error = root["error"];
  if (error.is_object()) {
    words.of_dialect = dialect == Dialect::openai || root["type"].string_or("") == "error";
    words.type = text_or_number(error["type"]);
    words.code = text_or_number(error["code"]);
    words.message = text_or_number(error["message"]);
    words.param = text_or_number(error["param"]);
    if (dialect == Dialect::anthropic && words.code.empty()) {
      words.code = text_or_number(error["details"]["error_code"]);
      if (words.code.empty()) words.code = text_or_number(error["error_code"]);
    }
    return words;
  }
  // Compatible backends: {"error": "…"}, {"message": "…"}, {"detail": "…"}.
  words.message = text_or_number(error);
  if (words.message.empty()) words.message = text_or_number(root["message"]);
  if (words.message.empty()) words.message = text_or_number(root["detail"]);
  if (!words.message.empty()) words.type = text_or_number(root["type"]);
  return words;
}

bool is_quota(const ErrorWords& words) {
  static constexpr std::array<std::string_view, 8> names = {
      "insufficient_quota", "enforced_spend_limit_reached", "billing",
      "quota_exceeded",     "insufficient_balance",         "payment_required",
      "access_terminated",  "account_deactivated"};
  static constexpr std::array<std::string_view, 3> sentences = {
      "credit balance is too low", "reached your specified API usage limits",
      "enforced_spend_limit_reached"};
  return contains_any(words.type, names) || contains_any(words.code, names) ||
         contains_any(words.message, sentences);
}

bool is_model_gone(unsigned status, const ErrorWords& words) {
  static constexpr std::array<std::string_view, 4> codes = {
      "model_not_found", "DeploymentNotFound", "model_deprecated", "model_not_available"};
  if (contains_any(words.code, codes) || status == 410) return true;
  if (status != 404) return false;
  // A 404 that no provider's endpoint has worded means that the deployment's address is wrong.
  return !words.of_dialect || words.param == "model" || contains(words.message, "model");
}

bool is_context_length(const ErrorWords& words) {
  static constexpr std::array<std::string_view, 4> sentences = {
      "prompt is too long", "maximum context length", "exceed context limit", "context window"};
  return words.code == "context_length_exceeded" || contains_any(words.message, sentences);
}

AttemptStatus classify(unsigned status, const ErrorWords& words) {
  if (status == 401 || status == 402 || status == 403 || is_quota(words))
    return AttemptStatus::credential;
  if (is_model_gone(status, words)) return AttemptStatus::model_gone;
  if (status == 429) return AttemptStatus::throttled;
  if (status == 408 || status == 409 || status == 424 || status == 425)
    return AttemptStatus::overloaded;
  if (status >= 400 && status < 500) return AttemptStatus::refused;
  return AttemptStatus::overloaded;  // 5xx, and what is no answer of a chat endpoint at all
}

bool may_retry_same(AttemptStatus status, unsigned http_status, std::string_view should_retry) {
  if (should_retry == "false") return false;
  if (status == AttemptStatus::throttled) return true;
  if (status != AttemptStatus::overloaded)
    return should_retry == "true" && status != AttemptStatus::credential;
  return http_status == 408 || http_status == 409 || http_status == 424 || http_status == 425 ||
         http_status >= 500;
}

std::string_view openai_type_of(unsigned status) {
  switch (status) {
    case 404: return "not_found_error";
    case 408:
    case 504: return "timeout_error";
    case 429: return "rate_limit_error";
    default: return status >= 400 && status < 500 ? "invalid_request_error" : "server_error";
  }
}

UpstreamFailure make_failure(Dialect dialect, unsigned status, ErrorWords words,
                             std::string_view body) {
  UpstreamFailure failure;
  failure.status = classify(status, words);
  failure.http_status = status;
  if (failure.status == AttemptStatus::refused && words.code.empty() && is_context_length(words)) {
    words.code = "context_length_exceeded";
  }
  failure.type = std::move(words.type);
  failure.code = std::move(words.code);
  if (failure.status == AttemptStatus::credential) {
    failure.message = "the provider refused the gateway's credential or quota (status " +
                      std::to_string(status) + (failure.code.empty() ? "" : ", " + failure.code) +
                      ")";
    failure.caller_body = openai_error_body("the provider is not available to this gateway",
                                            "service_unavailable", "upstream_credential");
    return failure;
  }
  failure.message = words.message.empty()
                        ? "the provider answered with status " + std::to_string(status)
                        : std::move(words.message);
  if (dialect == Dialect::openai && words.of_dialect) failure.caller_body = body;
  else
    failure.caller_body =
        openai_error_body(failure.message, openai_type_of(status), failure.code, words.param);
  return failure;
}

unsigned status_of(const ErrorWords& words) {
  // OpenRouter and vLLM put the status where OpenAI has a code.
  for (const std::string& word : {words.code, words.type}) {
    if (word.size() == 3 && word[0] >= '4' && word[0] <= '5' &&
        std::isdigit(static_cast<unsigned char>(word[1])) &&
        std::isdigit(static_cast<unsigned char>(word[2]))) {
      return static_cast<unsigned>(std::stoi(word));
    }
    for (const auto& known : status_of_word) {
      if (word == known.word) return known.status;
    }
  }
  return 500;
}

}  // namespace

UpstreamFailure read_failure(Dialect dialect, unsigned http_status, std::string_view body,
                             std::string_view retry_after, std::string_view retry_after_ms,
                             std::string_view should_retry, std::optional<std::int64_t> now_s) {
  ErrorWords words;
  if (body.size() <= failure_body_bytes_max) {
    JsonDocument document;
    if (const auto root = document.parse(body)) words = read_words(dialect, *root);
  }
  UpstreamFailure failure = make_failure(dialect, http_status, std::move(words), body);
  failure.retry_after_ms = parse_retry_after(
      retry_after, retry_after_ms, now_s ? *now_s : static_cast<std::int64_t>(std::time(nullptr)));
  failure.retry_same = may_retry_same(failure.status, http_status, should_retry);
  return failure;
}

UpstreamFailure read_stream_error(Dialect dialect, const JsonValue& root, std::string_view body) {
  ErrorWords words = read_words(dialect, root);
  const unsigned status = status_of(words);
  UpstreamFailure failure = make_failure(dialect, status, std::move(words), body);
  failure.retry_same = may_retry_same(failure.status, status, "");
  return failure;
}

}  // namespace outlast::gateway
