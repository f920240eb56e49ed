#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "gateway/retry_after.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace dialect_failure_test {

using namespace outlast;
using namespace outlast::gateway;

namespace {

struct Case {
  Dialect dialect;
  unsigned http_status;
  std::string body;
  AttemptStatus status;
  bool retry_same;
};

std::string openai_error(const std::string& type, const std::string& code,
                         const std::string& message = "words") {
  return openai_error_body(message, type, code);
}

std::string anthropic_error(const std::string& type, const std::string& message = "words",
                            const std::string& details = "") {
  return R"({"type":"error","error":{"type":")" + type + R"(","message":")" + message + "\"" +
         details + R"(},"request_id":"req_1"})";
}

}  // namespace

TEST_CASE("an upstream error is classified by the table", "[dialect]") {
  constexpr auto o = Dialect::openai;
  constexpr auto a = Dialect::anthropic;
  using S = AttemptStatus;
  const Case c = GENERATE(values<Case>({
      {o, 400, openai_error("invalid_request_error", ""), S::refused, false},
      {o, 400, openai_error("invalid_request_error", "context_length_exceeded"), S::refused, false},
      {o, 400, openai_error("invalid_request_error", "content_filter"), S::refused, false},
      {o, 413, "", S::refused, false},
      {o, 422, R"({"detail":"bad field"})", S::refused, false},
      {o, 401, openai_error("invalid_request_error", "invalid_api_key"), S::credential, false},
      {o, 403, "", S::credential, false},
      {o, 402, openai_error("payment", ""), S::credential, false},
      {o, 429, openai_error("insufficient_quota", "insufficient_quota"), S::credential, false},
      {o, 429, openai_error("insufficient_quota", "billing_hard_limit_reached"), S::credential,
       false},
      {o, 400, openai_error("billing_error", ""), S::credential, false},
      {o, 429, openai_error("requests", "rate_limit_exceeded"), S::throttled, true},
      {o, 429, openai_error("requests", "slow_down"), S::throttled, true},
      {o, 429, "", S::throttled, true},
      {o, 404, openai_error("invalid_request_error", "model_not_found"), S::model_gone, false},
      {o, 404, openai_error("", "DeploymentNotFound"), S::model_gone, false},
      {o, 404,
       R"({"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}})",
       S::model_gone, false},
      {o, 404, "<html>404</html>", S::model_gone, false},
      {o, 404, openai_error("invalid_request_error", "", "no such file: file-7"), S::refused,
       false},
      {o, 410, "", S::model_gone, false},
      {o, 400, openai_error("invalid_request_error", "model_not_found"), S::model_gone, false},
      {o, 408, "", S::overloaded, true},
      {o, 409, "", S::overloaded, true},
      {o, 424, "", S::overloaded, true},
      {o, 500, openai_error("server_error", ""), S::overloaded, true},
      {o, 502, "<html>bad gateway</html>", S::overloaded, true},
      {o, 503, "", S::overloaded, true},
      {o, 504, "", S::overloaded, true},
      {o, 302, "", S::overloaded, false},
      {o, 204, "", S::overloaded, false},
      {a, 400, anthropic_error("invalid_request_error"), S::refused, false},
      {a, 400, anthropic_error("invalid_request_error", "Your credit balance is too low to access"),
       S::credential, false},
      {a, 400,
       anthropic_error("invalid_request_error",
                       "You have reached your specified API usage limits."),
       S::credential, false},
      {a, 401, anthropic_error("authentication_error"), S::credential, false},
      {a, 402, anthropic_error("billing_error"), S::credential, false},
      {a, 403, anthropic_error("permission_error"), S::credential, false},
      {a, 404, anthropic_error("not_found_error", "model: claude-9"), S::model_gone, false},
      {a, 413, anthropic_error("request_too_large"), S::refused, false},
      {a, 429, anthropic_error("rate_limit_error"), S::throttled, true},
      {a, 429,
       anthropic_error("rate_limit_error", "usage limit",
                       R"(,"details":{"error_code":"enforced_spend_limit_reached"})"),
       S::credential, false},
      {a, 500, anthropic_error("api_error"), S::overloaded, true},
      {a, 529, anthropic_error("overloaded_error"), S::overloaded, true},
  }));
  CAPTURE(c.http_status, c.body);
  const auto failure = read_failure(c.dialect, c.http_status, c.body, "", "", "", 0);
  CHECK(name_of(failure.status) == name_of(c.status));
  CHECK(failure.http_status == c.http_status);
  CHECK(failure.retry_same == c.retry_same);
  CHECK_FALSE(failure.message.empty());
  CHECK(nlohmann::json::parse(failure.caller_body).at("error").at("message").is_string());
}

TEST_CASE("an openai error body passes unmodified, an anthropic one in openai's words",
          "[dialect]") {
  const std::string body =
      "{ \"error\": "
      "{\"message\":\"no\",\"type\":\"t\",\"param\":\"x\",\"code\":\"c\",\"vendor\":[1]} }\n";
  CHECK(read_failure(Dialect::openai, 400, body, "", "", "").caller_body == body);
  const auto failure = read_failure(
      Dialect::anthropic, 400,
      anthropic_error("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), "", "",
      "");
  CHECK(failure.type == "invalid_request_error");
  CHECK(failure.code == "context_length_exceeded");
  CHECK(
      nlohmann::json::parse(failure.caller_body) ==
      nlohmann::json::parse(
          R"({"error":{"message":"prompt is too long: 9 tokens > 8 maximum","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}})"));
}

TEST_CASE("the words of a credential error stay with the gateway", "[dialect]") {
  for (const Dialect dialect : {Dialect::openai, Dialect::anthropic}) {
    const auto failure = read_failure(
        dialect, 401,
        R"({"type":"error","error":{"message":"Incorrect API key provided: sk-SECRET","type":"authentication_error","code":"invalid_api_key"}})",
        "", "", "");
    CHECK(failure.status == AttemptStatus::credential);
    CHECK(failure.message.find("SECRET") == std::string::npos);
    CHECK(failure.caller_body.find("SECRET") == std::string::npos);
    CHECK(failure.caller_body.find("API key") == std::string::npos);
  }
}

TEST_CASE(
    "an error body that is no JSON, or too large, or hostile, is replaced by the gateway's own",
    "[dialect]") {
  const std::string body =
      GENERATE(std::string("<html>"), std::string(200'000, '{'), std::string("{\"error\":"),
               std::string(1, '\0'),
               std::string("{\"error\":{\"message\":\"") + std::string(100'000, 'x') + "\"}}",
               std::string("\xff\xfe"));
  const auto failure = read_failure(Dialect::openai, 500, body, "", "", "");
  CHECK(failure.status == AttemptStatus::overloaded);
  CHECK(failure.caller_body.size() < 1'000);
  CHECK(failure.message == "the provider answered with status 500");
}

TEST_CASE("a long message of an error is cut at a character", "[dialect]") {
  std::string message;
  for (int i = 0; i < 5'000; ++i) message += "\xc3\xa4";
  const auto failure =
      read_failure(Dialect::openai, 400, openai_error("t", "", message), "", "", "");
  CHECK(failure.message.size() <= 2 * 1024);
  CHECK(failure.message.size() % 2 == 0);
}

TEST_CASE("x-should-retry forbids another try of the same deployment", "[dialect]") {
  CHECK_FALSE(read_failure(Dialect::openai, 503, "", "", "", "false").retry_same);
  CHECK_FALSE(read_failure(Dialect::openai, 429, "", "", "", "false").retry_same);
  CHECK(read_failure(Dialect::openai, 503, "", "", "", "true").retry_same);
  CHECK(read_failure(Dialect::openai, 400, "", "", "", "true").retry_same);
  CHECK_FALSE(read_failure(Dialect::openai, 401, "", "", "", "true").retry_same);
}

TEST_CASE("Retry-After is read as seconds, as milliseconds and as a date", "[dialect]") {
  constexpr std::int64_t now_s = 784'111'777;  // Sun, 06 Nov 1994 08:49:37 GMT
  const auto parse = [](std::string_view seconds, std::string_view milliseconds = "") {
    return parse_retry_after(seconds, milliseconds, now_s);
  };
  CHECK(parse("2") == 2'000);
  CHECK(parse(" 0 ") == 0);
  CHECK(parse("1.5") == 1'500);
  CHECK(parse("7", "250") == 250);
  CHECK(parse("", "0.4") == 1);
  CHECK(parse("7", "soon") == 7'000);
  CHECK(parse("Sun, 06 Nov 1994 08:49:47 GMT") == 10'000);
  CHECK(parse("Sun, 06 Nov 1994 08:49:07 GMT") == 0);
  CHECK(parse("Mon, 06 Nov 2094 08:49:07 GMT") == 86'400'000);
  CHECK(parse("99999999999999999999") == 86'400'000);
  for (const char* const nonsense :
       {"", "-1", "1e3", "inf", "nan", "2s", "Sun, 06 Xyz 1994 08:49:47 GMT",
        "Sun, 31 Feb 1994 08:49:47 GMT", "Sun, 06 ovD 1994 08:49:47 GMT",
        "Sun, 06 Nov 1994 28:49:47 GMT", "0x10"}) {
    CAPTURE(nonsense);
    CHECK_FALSE(parse(nonsense));
  }
  CHECK(read_failure(Dialect::openai, 429, "", "3", "", "", now_s).retry_after_ms == 3'000);
}

}  // namespace dialect_failure_test
