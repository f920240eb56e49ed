#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "gateway/openai_request.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace dialect_request_test {

using namespace outlast;
using namespace outlast::gateway;
using nlohmann::json;
using outlast::gateway::testing::golden;
using outlast::gateway::testing::PaddedBody;
using outlast::gateway::testing::text_of;

namespace {

// What is sent, as text.
struct Sent {
  std::string path;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
};

Result<Sent> sent_of(const Result<UpstreamRequest>& request) {
  if (!request) return fail(request.error());
  Sent sent{std::string(request->path), {}, text_of(request->body)};
  for (const auto& [name, value] : request->headers) sent.headers.emplace_back(name, value);
  return sent;
}

Result<Sent> upstream(Dialect dialect, const std::string& text,
                                 std::uint64_t output_tokens_max = 4'096,
                                 std::string_view model = "claude-x") {
  ChatScanner scanner;
  const PaddedBody body(text);
  auto head = scanner.scan(body.view());
  REQUIRE(head);
  return sent_of(write_upstream_request(dialect, {body.view(), nullptr, *head}, model, output_tokens_max));
}

std::string rewritten(const std::string& text) {
  const auto request = upstream(Dialect::openai, text, 99, "gpt-\"x\"");
  REQUIRE(request);
  REQUIRE_FALSE(json::parse(request->body, nullptr, false).is_discarded());
  return request->body;
}

std::string request_with(const std::string& members) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + members + "}";
}

chat::Request typed_request() {
  chat::Request request;
  request.model = "smart";
  request.messages.push_back({chat::Role::system, {chat::Text{"Be brief."}}});
  request.messages.push_back(
      {chat::Role::user, {chat::Text{"Look"}, chat::Image{"image/png", "iVBO", ""}}});
  request.messages.push_back({chat::Role::assistant, {chat::ToolCall{"c1", "see", "{\"x\":1}"}}});
  request.messages.push_back({chat::Role::tool, {chat::ToolResult{"c1", "a cat", true}}});
  request.tools.push_back({"see", "looks", R"({"type":"object"})"});
  request.tool_choice = chat::ToolChoice::named;
  request.tool_choice_name = "see";
  request.parallel_tool_calls = false;
  request.temperature = 0.25;
  request.stop = {"END"};
  request.user = "u1";
  request.extra_json = R"("seed":7,"top_k":5)";
  return request;
}

}  // namespace

TEST_CASE("a golden openai request becomes its anthropic counterpart", "[dialect]") {
  const std::string name = GENERATE("request_text", "request_tools", "request_images");
  CAPTURE(name);
  const auto request = upstream(Dialect::anthropic, golden(name + ".openai.json"));
  REQUIRE(request);
  CHECK(json::parse(request->body) == json::parse(golden(name + ".anthropic.json")));
  CHECK(request->path == "/messages");
  CHECK(request->headers ==
        std::vector<std::pair<std::string, std::string>>{{"content-type", "application/json"},
                                                         {"anthropic-version", "2023-06-01"}});
}

TEST_CASE("an openai request to an openai provider changes nothing but what it must", "[dialect]") {
  struct Case {
    std::string body;
    std::string expected;
  };
  const std::string model = R"("gpt-\"x\"")";
  const Case c = GENERATE_COPY(values<Case>({
      {R"( {"messages":[ {} ],  "model" : "m" , "max_tokens":5,"x":{"model":"m"}} )",
       R"( {"messages":[ {} ],  "model" : )" + model + R"( , "max_tokens":5,"x":{"model":"m"}} )"},
      {R"({"model":"m","max_completion_tokens":7,"messages":[{}]})",
       R"({"model":)" + model + R"(,"max_completion_tokens":7,"messages":[{}]})"},
      {R"({"model":"m","messages":[{}]})",
       R"({"model":)" + model + R"(,"max_tokens":99,"messages":[{}]})"},
      {R"({"max_tokens": null,"messages":[{}],"model":"m"})",
       R"({"max_tokens": 99,"messages":[{}],"model":)" + model + "}"},
      {R"({"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"model":)" + model +
           R"(,"stream_options":{"include_usage":true},"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"model":"m","max_tokens":5,"stream":false,"messages":[{}],"stream_options":{"include_usage":false}})",
       R"({"model":)" + model +
           R"(,"max_tokens":5,"stream":false,"messages":[{}],"stream_options":{"include_usage":false}})"},
      {R"({"stream_options":{"include_usage": true },"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"stream_options":{"include_usage": true },"model":)" + model +
           R"(,"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"stream_options":{"a":1,"include_usage": false },"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"stream_options":{"a":1,"include_usage": true },"model":)" + model +
           R"(,"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"stream_options":{"include_usage":null},"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"stream_options":{"include_usage":true},"model":)" + model +
           R"(,"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"stream_options": { } ,"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"stream_options": {"include_usage":true } ,"model":)" + model +
           R"(,"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"stream_options":{"include_obfuscation":false},"model":"m","max_tokens":5,"stream":true,"messages":[{}]})",
       R"({"stream_options":{"include_usage":true,"include_obfuscation":false},"model":)" + model +
           R"(,"max_tokens":5,"stream":true,"messages":[{}]})"},
      {R"({"stream_options":null,"model":"m","stream":true,"messages":[{}],"max_tokens":null})",
       R"({"stream_options":{"include_usage":true},"model":)" + model +
           R"(,"stream":true,"messages":[{}],"max_tokens":99})"},
  }));
  CHECK(rewritten(c.body) == c.expected);
}

TEST_CASE("the bound that was reserved is sent where the caller gave none", "[dialect]") {
  CHECK(json::parse(upstream(Dialect::anthropic, request_with(""), 321)->body).at("max_tokens") == 321);
  CHECK(json::parse(upstream(Dialect::openai, request_with(""), 321)->body).at("max_tokens") == 321);
  CHECK(json::parse(upstream(Dialect::anthropic, request_with(R"(,"max_tokens":7)"), 321)->body)
            .at("max_tokens") == 7);
  CHECK_FALSE(
      json::parse(upstream(Dialect::openai, request_with(R"(,"max_completion_tokens":7)"), 321)->body)
          .contains("max_tokens"));
}

TEST_CASE("what anthropic has no word for is refused by the field's name", "[dialect]") {
  struct Case {
    std::string members;
    std::string name;
  };
  const Case c = GENERATE(values<Case>({
      {R"(,"n":2)", "'n'"},
      {R"(,"logprobs":true)", "'logprobs'"},
      {R"(,"top_logprobs":3)", "'top_logprobs'"},
      {R"(,"logit_bias":{"50256":-100})", "'logit_bias'"},
      {R"(,"response_format":{"type":"json_schema","json_schema":{}})", "'response_format'"},
      {R"(,"response_format":{"type":"json_object"})", "'response_format'"},
      {R"(,"modalities":["text","audio"])", "'modalities'"},
      {R"(,"audio":{"voice":"alloy"})", "'audio'"},
      {R"(,"functions":[{"name":"f"}])", "'functions'"},
      {R"(,"web_search_options":{"x":1})", "'web_search_options'"},
      {R"(,"tools":[{"type":"custom","custom":{"name":"f"}}])", "'tools[0].type'"},
      {R"(,"tool_choice":{"type":"allowed_tools"})", "'tool_choice'"},
  }));
  CAPTURE(c.members);
  const auto request = upstream(Dialect::anthropic, request_with(c.members));
  REQUIRE_FALSE(request);
  CHECK(is(request.error(), DialectError::unsupported));
  CHECK(request.error().message.find(c.name) != std::string::npos);
  CHECK(upstream(Dialect::openai, request_with(c.members)));
}

TEST_CASE("fields that say nothing, or only tune, do not stop a translation", "[dialect]") {
  const std::string members = GENERATE(
      R"(,"n":1,"logprobs":false,"top_logprobs":0,"logit_bias":{},"functions":[],"modalities":["text"],"response_format":{"type":"text"})",
      R"(,"n":null,"logprobs":null,"logit_bias":null,"audio":null,"response_format":null,"tools":null,"tool_choice":null,"stop":null,"user":null)",
      R"(,"seed":1,"presence_penalty":2,"frequency_penalty":-1,"store":true,"metadata":{"a":"b"},"service_tier":"auto","prediction":{},"reasoning_effort":"low","verbosity":"low","prompt_cache_key":"k","unknown":{"x":[1]})",
      R"(,"tools":[],"tool_choice":"auto","parallel_tool_calls":true)");
  CAPTURE(members);
  const auto request = upstream(Dialect::anthropic, request_with(members));
  REQUIRE(request);
  CHECK(
      json::parse(request->body) ==
      json::parse(
          R"({"model":"claude-x","max_tokens":4096,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})"));
}

TEST_CASE("a message that is no message is refused by its path", "[dialect]") {
  struct Case {
    std::string messages;
    std::string path;
    DialectError code;
  };
  constexpr auto invalid = DialectError::invalid_request;
  constexpr auto unsupported = DialectError::unsupported;
  const Case c = GENERATE_COPY(values<Case>({
      {R"([1])", "messages[0]", invalid},
      {R"([{"content":"x"}])", "messages[0].role", invalid},
      {R"([{"role":"user","content":"x"},{"role":"wizard"}])", "messages[1].role", invalid},
      {R"([{"role":"function","name":"f","content":"x"}])", "messages[0].role", unsupported},
      {R"([{"role":"user","content":7}])", "messages[0].content", invalid},
      {R"([{"role":"user","content":[{"text":"x"}]}])", "messages[0].content[0].type", invalid},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text", invalid},
      {R"([{"role":"user","content":[{"type":"input_audio","input_audio":{}}]}])",
       "messages[0].content[0].type", unsupported},
      {R"([{"role":"user","content":[{"type":"image_url"}]}])",
       "messages[0].content[0].image_url.url", invalid},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"ftp://x"}}]}])",
       "image_url.url", invalid},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:;base64,"}}]}])",
       "image_url.url", invalid},
      {R"([{"role":"tool","content":"x"}])", "messages[0].tool_call_id", invalid},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":{}}}]}])",
       "function.arguments", invalid},
      {R"([{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}])",
       "tool_calls[0].id", invalid},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"arguments":"{}"}}]}])",
       "function.name", invalid},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]}])",
       "messages[0]", invalid},
      {R"([{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f","arguments":"[1]"}}]}])",
       "messages[0]", invalid},
      {R"([{"role":"assistant","function_call":{"name":"f"}}])", "messages[0].function_call",
       unsupported},
      {R"([{"role":"system","content":"only"}])", "messages", invalid},
      {R"([{"role":"system","content":[{"type":"image_url","image_url":{"url":"https://x/y"}}]}])",
       "messages[0]", unsupported},
  }));
  CAPTURE(c.messages);
  const auto request =
      upstream(Dialect::anthropic, R"({"model":"m","messages":)" + c.messages + "}");
  REQUIRE_FALSE(request);
  CHECK(is(request.error(), c.code));
  CHECK(request.error().message.find(c.path) != std::string::npos);
}

TEST_CASE("a typed request is written in openai's words, streamed and with usage", "[dialect]") {
  const auto request = typed_request();
  const auto written =
      sent_of(write_upstream_request(Dialect::openai, {{}, &request, {}}, "gpt-x", 50));
  REQUIRE(written);
  CHECK(written->path == "/chat/completions");
  CHECK(json::parse(written->body) == json::parse(R"({
    "model":"gpt-x","max_tokens":50,"temperature":0.25,"stop":["END"],"user":"u1","seed":7,"top_k":5,"stream":true,
    "stream_options":{"include_usage":true},"parallel_tool_calls":false,
    "tools":[{"type":"function","function":{"name":"see","description":"looks","parameters":{"type":"object"}}}],
    "tool_choice":{"type":"function","function":{"name":"see"}},
    "messages":[{"role":"system","content":"Be brief."},
      {"role":"user","content":[{"type":"text","text":"Look"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBO"}}]},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"see","arguments":"{\"x\":1}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"a cat"}]})"));
}

TEST_CASE("a typed request reads back as itself from openai's words", "[dialect]") {
  auto request = typed_request();
  const auto written = write_openai_request(request, "smart", 50);
  REQUIRE(written);
  const auto read = read_openai_request(*written);
  REQUIRE(read);
  request.stream = true;
  request.include_usage = true;
  request.max_tokens = 50;
  std::get<chat::ToolResult>(request.messages[3].parts[0]).is_error =
      false;  // OpenAI has no word for it
  CHECK(*read == request);
}

TEST_CASE("a typed request is written in anthropic's words", "[dialect]") {
  auto request = typed_request();
  request.tool_choice = chat::ToolChoice::none;
  const auto written =
      sent_of(write_upstream_request(Dialect::anthropic, {{}, &request, {}}, "claude-x", 50));
  REQUIRE(written);
  const auto body = json::parse(written->body);
  CHECK(body.at("stream") == true);
  CHECK(body.at("top_k") == 5);
  CHECK_FALSE(body.contains("seed"));
  CHECK(body.at("tool_choice") == json::parse(R"({"type":"none"})"));
  CHECK(body.at("messages").at(2).at("content").at(0).at("is_error") == true);
}

TEST_CASE("extra fields of a typed request cannot smuggle fields of its own", "[dialect]") {
  auto request = typed_request();
  request.extra_json =
      GENERATE(R"("model":"other")", R"("mod\u0065l":"other")", R"("stream":false)",
               R"("a":1},{"b":2)", R"("a")", R"("n":2)", R"("max_tokens":999999)");
  CAPTURE(request.extra_json);
  CHECK_FALSE(write_upstream_request(Dialect::openai, {{}, &request, {}}, "gpt-x", 50));
}

TEST_CASE("credentials go where each dialect wants them", "[dialect]") {
  const CredentialHeader openai = credential_header(Dialect::openai, "k");
  CHECK(openai.name == "authorization");
  CHECK(openai.value == "Bearer k");
  const CredentialHeader anthropic = credential_header(Dialect::anthropic, "k");
  CHECK(anthropic.name == "x-api-key");
  CHECK(anthropic.value == "k");
  CHECK(credential_header(Dialect::openai, "").value.empty());
  CHECK(parse_dialect("openai") == Dialect::openai);
  CHECK(parse_dialect("anthropic") == Dialect::anthropic);
  CHECK_FALSE(parse_dialect("OpenAI"));
  CHECK(name_of(Dialect::anthropic) == "anthropic");
}

}  // namespace dialect_request_test
