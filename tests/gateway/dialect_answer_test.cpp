#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "gateway/event_order.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace dialect_answer_test {

using namespace outlast;
using namespace outlast::gateway;
using namespace outlast::gateway::testing;
using nlohmann::json;

namespace {

constexpr auto whole = CallerForm::openai_whole;
constexpr auto stream = CallerForm::openai_stream;
constexpr auto events = CallerForm::events;

std::vector<std::string> bytes_of(const std::string& text, std::size_t size = 1) {
  std::vector<std::string> pieces;
  for (std::size_t at = 0; at < text.size(); at += size) pieces.push_back(text.substr(at, size));
  return pieces;
}

std::string chunk(const std::string& members) {
  return R"(data: {"id":"c","object":"chat.completion.chunk","model":"gpt-x",)" + members + "}\n\n";
}

std::string delta(const std::string& members, const std::string& finish = "null") {
  return chunk(R"("choices":[{"index":0,"delta":{)" + members + R"(},"finish_reason":)" + finish +
               "}]");
}

chat::Response collected(const std::vector<chat::Event>& list) {
  ResponseCollector collector;
  for (const auto& event : list) REQUIRE(collector.accept(event));
  REQUIRE(collector.finished());
  return collector.response();
}

const std::string done = "data: [DONE]\n\n";

}  // namespace

TEST_CASE("a golden anthropic answer becomes its openai counterpart", "[dialect]") {
  const std::string name = GENERATE("answer_text", "answer_tools");
  const auto text = golden(name + ".anthropic.json");
  const auto answer = read_answer(Dialect::anthropic, context_of(whole), bytes_of(text, 100));
  REQUIRE_FALSE(answer.error);
  CHECK(answer.done);
  CHECK(answer.content);
  CHECK(json::parse(answer.bytes) == json::parse(golden(name + ".openai.json")));
}

TEST_CASE("anthropic's usage falls into disjoint buckets", "[dialect]") {
  const auto answer =
      read_answer(Dialect::anthropic, context_of(whole), {golden("answer_text.anthropic.json")});
  CHECK(answer.usage == Usage{10, 100, 20, 40, 0, 0, 5, 4, 0, UsageSource::reported});
  const auto streamed =
      read_answer(Dialect::anthropic, context_of(events), {golden("stream_text.anthropic.sse")});
  CHECK(streamed.usage == Usage{25, 16, 3, 5, 0, 0, 9, 6, 0, UsageSource::reported});
}

TEST_CASE("openai's usage falls into disjoint buckets", "[dialect]") {
  struct Case {
    std::string usage;
    Usage expected;
  };
  constexpr auto reported = UsageSource::reported;
  const Case c = GENERATE_COPY(values<Case>({
      {R"({"prompt_tokens":10,"completion_tokens":5,"total_tokens":15})",
       {10, 0, 0, 0, 0, 0, 5, 0, 0, reported}},
      {R"({"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":64,"audio_tokens":6},"completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":3}})",
       {30, 64, 0, 0, 6, 0, 27, 20, 3, reported}},
      {R"({"prompt_tokens":0,"completion_tokens":0})", {0, 0, 0, 0, 0, 0, 0, 0, 0, reported}},
      {R"({"prompt_tokens":5,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":9},"completion_tokens_details":{"reasoning_tokens":9}})",
       {0, 5, 0, 0, 0, 0, 0, 5, 0, reported}},
      {R"({"prompt_tokens":5,"completion_tokens":5,"total_tokens":30,"completion_tokens_details":{"reasoning_tokens":20}})",
       {5, 0, 0, 0, 0, 0, 5, 20, 0, reported}},
      {R"({"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5})",
       {5, 4, 0, 0, 0, 0, 1, 0, 0, reported}},
      {R"({"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":null})",
       {9, 0, 0, 0, 0, 0, 1, 0, 0, reported}},
      {R"({})", {}},
      {R"(null)", {}},
      {R"({"prompt_tokens":-3,"completion_tokens":"x"})", {}},
  }));
  CAPTURE(c.usage);
  const std::string body =
      R"({"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":)" +
      c.usage + "}";
  CHECK(read_answer(Dialect::openai, context_of(whole), {body}).usage == c.expected);
  const auto streamed = read_answer(
      Dialect::openai, context_of(stream),
      {delta(R"("content":"hi")", "\"stop\""), chunk(R"("choices":[],"usage":)" + c.usage), done});
  CHECK(streamed.usage == c.expected);
}

TEST_CASE("a golden anthropic stream, split at every byte, becomes the same openai stream",
          "[dialect]") {
  const std::string name = GENERATE("stream_text", "stream_tools");
  const auto text = golden(name + ".anthropic.sse");
  const auto expected = golden(name + ".openai.sse");
  for (std::size_t at = 0; at <= text.size(); ++at) {
    const auto answer =
        read_answer(Dialect::anthropic, context_of(stream), {text.substr(0, at), text.substr(at)});
    INFO("split at " << at << (answer.error ? answer.error->message : ""));
    REQUIRE(answer.bytes == expected);
    REQUIRE(answer.done);
    REQUIRE_FALSE(answer.given_before_content);
  }
  CHECK(read_answer(Dialect::anthropic, context_of(stream), bytes_of(text)).bytes == expected);
}

TEST_CASE("an openai stream, split at every byte, passes unmodified in whole events", "[dialect]") {
  const auto text = golden("stream_text.upstream.sse");
  const bool include_usage = GENERATE(true, false);
  const auto expected = include_usage ? text : golden("stream_text.stripped.sse");
  for (std::size_t at = 0; at <= text.size(); ++at) {
    auto reader = make_answer_reader(Dialect::openai, context_of(stream, include_usage));
    INFO("split at " << at);
    Answer answer;
    const std::string first = text.substr(0, at);
    const std::string second = text.substr(at);
    if (take(answer, reader->feed(first))) {
      // What has been given after the first piece ends with an event's end.
      REQUIRE((answer.bytes.empty() || answer.bytes.ends_with("\n\n")));
      if (take(answer, reader->feed(second))) take(answer, reader->finish());
    }
    REQUIRE_FALSE(answer.error);
    if (at % 64 == 0 || !include_usage) REQUIRE(answer.bytes.size() <= text.size());
    REQUIRE(answer.done);
    REQUIRE_FALSE(answer.given_before_content);
    if (include_usage) REQUIRE(answer.bytes == expected);
    REQUIRE((answer.bytes.find("prompt_tokens") != std::string::npos) == include_usage);
    REQUIRE(reader->usage() == Usage{50, 64, 0, 0, 6, 0, 18, 10, 2, UsageSource::reported});
  }
  CHECK(read_answer(Dialect::openai, context_of(stream, include_usage), bytes_of(text)).bytes ==
        expected);
}

TEST_CASE("whole events pass as a view of the bytes that came", "[dialect]") {
  auto reader = make_answer_reader(Dialect::openai, context_of(stream));
  const std::string first = delta(R"("role":"assistant","content":"")");
  const std::string second = delta(R"("content":"a")");
  const std::string third = delta(R"("content":"b")") + delta(R"("content":"c")");
  CHECK(reader->feed(first)->bytes.empty());
  CHECK(reader->feed(second)->bytes == first + second);
  const auto step = reader->feed(third);
  CHECK(step->bytes.data() == third.data());
  CHECK(step->bytes.size() == third.size());
}

TEST_CASE("nothing is given before the first content, and content is what it says", "[dialect]") {
  struct Case {
    std::string piece;
    bool content;
  };
  const Case c = GENERATE(values<Case>({
      {": comment\n\n", false},
      {delta(R"("role":"assistant")"), false},
      {delta(R"("role":"assistant","content":"")"), false},
      {delta(R"("content":null,"tool_calls":[])"), false},
      {chunk(R"("choices":[])"), false},
      {chunk(R"("choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1})"), false},
      {delta(R"("content":"x")"), true},
      {delta(R"("refusal":"no")"), true},
      {delta(R"("reasoning_content":"hm")"), true},
      {delta(R"("reasoning":"hm")"), true},
      {delta(R"("tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}])"),
       true},
      {delta("", "\"stop\""), true},
  }));
  CAPTURE(c.piece);
  for (const CallerForm form : {stream, events}) {
    // The typed finish waits for the usage, which comes after it.
    if (form == events && c.piece.find("stop") != std::string::npos) continue;
    auto reader = make_answer_reader(Dialect::openai, context_of(form));
    const auto step = reader->feed(c.piece);
    REQUIRE(step);
    CHECK(step->content == c.content);
    if (!c.content) CHECK((step->bytes.empty() && step->events.empty()));
  }
}

TEST_CASE("an error inside a 200 is a failure, as the first event and later", "[dialect]") {
  const std::string openai_error =
      "data: {\"error\":{\"message\":\"upstream "
      "down\",\"type\":\"server_error\",\"code\":502}}\n\n";
  const std::string anthropic_error =
      "event: error\ndata: "
      "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}"
      "\n\n";
  const auto openai = GENERATE(true, false);
  const auto form = GENERATE(stream, events, whole);
  const auto dialect = openai ? Dialect::openai : Dialect::anthropic;
  if (openai && form == whole)
    return;  // read_answer below feeds a stream, which such an upstream never sends
  const std::string& error = openai ? openai_error : anthropic_error;
  const auto first = read_answer(dialect, context_of(form), {error});
  REQUIRE(first.failure);
  CHECK(first.failure->status == AttemptStatus::overloaded);
  CHECK(first.failure->http_status == (openai ? 502 : 529));
  CHECK(first.bytes.empty());
  CHECK(first.events.empty());
  CHECK_FALSE(first.done);
  CHECK(json::parse(first.failure->caller_body).at("error").at("message") ==
        (openai ? "upstream down" : "Overloaded"));

  const auto before =
      openai ? delta(R"("content":"half")")
             : golden("stream_text.anthropic.sse")
                   .substr(0, golden("stream_text.anthropic.sse").find("event: message_delta"));
  const auto later = read_answer(dialect, context_of(form), {before + error});
  REQUIRE(later.failure);
  CHECK_FALSE(later.done);
  CHECK(later.bytes.find("Overloaded") == std::string::npos);
  CHECK(later.bytes.find("upstream down") == std::string::npos);
  if (form == stream) CHECK(later.bytes.find(openai ? "half" : "Rom") != std::string::npos);
}

TEST_CASE("a JSON error as the whole body of a 200 is a failure in every form", "[dialect]") {
  const auto form = GENERATE(stream, events, whole);
  const std::string openai =
      R"({"error":{"message":"quota","type":"insufficient_quota","code":"insufficient_quota"}})";
  const auto first = read_answer(Dialect::openai, context_of(form), bytes_of(openai, 10));
  REQUIRE(first.failure);
  CHECK(first.failure->status == AttemptStatus::credential);
  const std::string anthropic =
      R"({"type":"error","error":{"type":"rate_limit_error","message":"slow"}})";
  const auto second = read_answer(Dialect::anthropic, context_of(form), bytes_of(anthropic, 10));
  REQUIRE(second.failure);
  CHECK(second.failure->status == AttemptStatus::throttled);
  CHECK(second.failure->http_status == 429);
}

TEST_CASE("a whole answer to a streamed request is given as a stream", "[dialect]") {
  const std::string body =
      R"({"id":"c","model":"gpt-x","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}})";
  const auto answer = read_answer(Dialect::openai, context_of(stream), bytes_of(body, 7));
  CHECK(answer.done);
  CHECK(answer.bytes.find(R"("delta":{"content":"hi"})") != std::string::npos);
  CHECK(answer.bytes.ends_with(done));
  CHECK(answer.usage.output_text == 2);
}

TEST_CASE("whether an answer is whole or a stream does not hang on where it is cut", "[dialect]") {
  const std::string body =
      R"({"id":"c","choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]})";
  // A NUL is a stream's first byte, and no stream at all; white space and a byte order mark are nobody's.
  const std::string text = GENERATE_COPY(std::string(1, '\0') + body, " \n" + body, "\xef\xbb\xbf" + body);
  for (const CallerForm form : {stream, events}) {
    const auto at_once = read_answer(Dialect::openai, context_of(form), {text});
    CHECK(at_once.done == (text[0] != '\0'));
    for (std::size_t at = 1; at < text.size(); ++at) {
      const auto pieces =
          read_answer(Dialect::openai, context_of(form), {text.substr(0, at), text.substr(at)});
      INFO("cut at " << at);
      REQUIRE(pieces.done == at_once.done);
      REQUIRE(pieces.bytes == at_once.bytes);
      REQUIRE(pieces.events == at_once.events);
    }
  }
}

TEST_CASE("a whole openai answer passes unmodified", "[dialect]") {
  const std::string body =
      "\n{ "
      "\"choices\":[{\"index\":0,\"message\":{\"content\":\"h\\u00e4\",\"tool_calls\":[{\"type\":"
      "\"custom\"}]}}], \"vendor\":1 }\n";
  const auto answer = read_answer(Dialect::openai, context_of(whole), bytes_of(body, 3));
  CHECK(answer.done);
  CHECK(answer.bytes == body);
  CHECK(answer.content_bytes == 3);
  CHECK(answer.usage.source == UsageSource::absent);
}

TEST_CASE("an answer that ends too early is an error and never done", "[dialect]") {
  const auto text = golden("stream_text.anthropic.sse");
  const std::size_t end = text.find("event: message_stop");
  for (std::size_t at = 0; at < end; at += 13) {
    const auto form = at % 2 == 0 ? stream : events;
    const auto answer = read_answer(Dialect::anthropic, context_of(form), {text.substr(0, at)});
    INFO("cut at " << at);
    REQUIRE(answer.error);
    REQUIRE(is(*answer.error, DialectError::malformed_answer));
    REQUIRE_FALSE(answer.done);
    REQUIRE(answer.bytes.find("[DONE]") == std::string::npos);
    REQUIRE(answer.bytes.find("\"stop\"") == std::string::npos);
  }
  CHECK(read_answer(Dialect::openai, context_of(stream), {delta(R"("content":"a")")}).error);
  CHECK(read_answer(Dialect::openai, context_of(events), {delta(R"("content":"a")")}).error);
  CHECK(read_answer(Dialect::openai, context_of(events), {delta(R"("content":"a")") + done}).error);
  CHECK(read_answer(Dialect::openai, context_of(whole), {R"({"choices":[{"mess)"}).error);
  CHECK(read_answer(Dialect::openai, context_of(whole), {}).error);
  CHECK(read_answer(Dialect::anthropic, context_of(whole), {"<html></html>"}).error);
}

TEST_CASE("a backend that leaves out the end marker is finished when its choices are",
          "[dialect]") {
  const std::string text = delta(R"("content":"a")") + delta("", "\"stop\"");
  const auto passed = read_answer(Dialect::openai, context_of(stream), {text});
  CHECK(passed.done);
  CHECK(passed.bytes == text + done);
  const auto typed = read_answer(Dialect::openai, context_of(events), {text});
  CHECK(typed.done);
  CHECK(collected(typed.events).text == "a");
  CHECK(read_answer(Dialect::openai, context_of(stream), {text + "data: {\"cho"}).error);
}

TEST_CASE("anthropic's order is enforced when it is read", "[dialect]") {
  const std::string start =
      "data: "
      "{\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"x\",\"usage\":{\"input_"
      "tokens\":1}}}\n\n";
  const auto block = [](int index, const std::string& content) {
    return "data: {\"type\":\"content_block_start\",\"index\":" + std::to_string(index) +
           ",\"content_block\":" + content + "}\n\n";
  };
  const auto piece = [](int index, const std::string& content) {
    return "data: {\"type\":\"content_block_delta\",\"index\":" + std::to_string(index) +
           ",\"delta\":" + content + "}\n\n";
  };
  const auto close = [](int index) {
    return "data: {\"type\":\"content_block_stop\",\"index\":" + std::to_string(index) + "}\n\n";
  };
  const std::string text_block = R"({"type":"text","text":""})";
  const std::string text = R"({"type":"text_delta","text":"a"})";
  const std::string tool_block = R"({"type":"tool_use","id":"t","name":"f","input":{}})";
  const std::string thinking_block = R"({"type":"thinking","thinking":""})";
  const std::string end =
      "data: "
      "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_"
      "tokens\":1}}\n\n";
  const std::string stop = "data: {\"type\":\"message_stop\"}\n\n";

  const std::string illegal = GENERATE_COPY(
      block(0, text_block), start + start, start + piece(0, text), start + close(0), start + stop,
      end, stop, start + block(0, text_block) + block(1, text_block),
      start + block(0, text_block) + piece(1, text), start + block(0, text_block) + close(1),
      start + block(0, text_block) + end, start + block(0, text_block) + stop,
      start + block(1, text_block) + close(1) + block(1, text_block),
      start + block(1, text_block) + close(1) + block(0, text_block),
      start + end + block(0, text_block), start + block(0, tool_block) + piece(0, text),
      start + block(0, text_block) + piece(0, R"({"type":"input_json_delta","partial_json":"{"})"),
      start + block(0, text_block) + piece(0, R"({"type":"thinking_delta","thinking":"x"})"),
      start + block(0, text_block) + piece(0, R"({"type":"signature_delta","signature":"x"})"),
      start + block(0, thinking_block) + piece(0, R"({"type":"citations_delta","citation":{}})"),
      start + block(0, R"({"type":"tool_use","id":"t"})"), start + "data: [1]\n\n",
      start + "data: {\"type\":\n\n");
  CAPTURE(illegal);
  const auto answer = read_answer(Dialect::anthropic, context_of(stream), {illegal}, false);
  REQUIRE(answer.error);
  CHECK(is(*answer.error, DialectError::malformed_answer));

  const auto legal =
      start + "data: {\"type\":\"ping\"}\n\n" + block(0, text_block) + piece(0, text) +
      "data: {\"type\":\"from_the_future\"}\n\n" + piece(0, R"({"type":"new_delta"})") + close(0) +
      block(4, R"({"type":"web_search_tool_result"})") +
      piece(4, R"({"type":"input_json_delta","partial_json":"{"})") + close(4) + end + stop;
  CHECK(read_answer(Dialect::anthropic, context_of(stream), {legal}).done);
}

TEST_CASE("stop reasons never turn an unfinished answer into a natural end", "[dialect]") {
  struct Case {
    std::string anthropic;
    std::string openai;
  };
  const Case c = GENERATE(values<Case>({{"end_turn", "stop"},
                                        {"stop_sequence", "stop"},
                                        {"max_tokens", "length"},
                                        {"tool_use", "tool_calls"},
                                        {"refusal", "content_filter"},
                                        {"model_context_window_exceeded", "length"},
                                        {"pause_turn", "length"},
                                        {"something_new", "length"}}));
  const std::string body =
      R"({"id":"m","model":"x","content":[{"type":"text","text":"a"}],"stop_reason":")" +
      c.anthropic + R"(","usage":{"input_tokens":1,"output_tokens":1}})";
  const auto answer = read_answer(Dialect::anthropic, context_of(whole), {body});
  CHECK(json::parse(answer.bytes).at("choices").at(0).at("finish_reason") == c.openai);
}

TEST_CASE("an openai stream becomes typed events, whatever the backend's habits with tool calls",
          "[dialect]") {
  const std::string calls = GENERATE(
      // one fragment at a time
      delta(
          R"("tool_calls":[{"index":0,"id":"a","type":"function","function":{"name":"f","arguments":""}}])") +
          delta(R"("tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}}])") +
          delta(R"("tool_calls":[{"index":0,"function":{"arguments":":1}"}}])") +
          delta(R"("tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}])"),
      // whole calls in one chunk, an empty content beside them
      delta(
          R"("content":"","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}},{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}])"),
      // no index
      delta(R"("tool_calls":[{"id":"a","function":{"name":"f","arguments":"{\"x\":"}}])") +
          delta(R"("tool_calls":[{"function":{"arguments":"1}"}}])") +
          delta(R"("tool_calls":[{"id":"b","function":{"name":"g","arguments":"{}"}}])"),
      // the same index for every call
      delta(
          R"("tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}])") +
          delta(R"("tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}])"),
      // the id repeated on every fragment, indexes from 1
      delta(
          R"("tool_calls":[{"index":1,"id":"a","function":{"name":"f","arguments":"{\"x\":"}}])") +
          delta(R"("tool_calls":[{"index":1,"id":"a","function":{"arguments":"1}"}}])") +
          delta(R"("tool_calls":[{"index":2,"id":"b","function":{"name":"g","arguments":"{}"}}])"));
  const std::string text =
      delta(R"("role":"assistant","content":"")") + delta(R"("content":"Let")") +
      delta(R"("content":" me")") + calls + delta("", "\"tool_calls\"") +
      chunk(R"("choices":[],"usage":{"prompt_tokens":4,"completion_tokens":6})") + done;
  CAPTURE(calls);
  const auto answer = read_answer(Dialect::openai, context_of(events), bytes_of(text, 50));
  INFO((answer.error ? answer.error->message : ""));
  REQUIRE(answer.done);
  const auto response = collected(answer.events);
  CHECK(response.id == "c");
  CHECK(response.model == "gpt-x");
  CHECK(response.text == "Let me");
  CHECK(response.tool_calls ==
        std::vector<chat::ToolCall>{{"a", "f", "{\"x\":1}"}, {"b", "g", "{}"}});
  CHECK(response.reason == chat::StopReason::tool_calls);
  CHECK(response.usage == Usage{4, 0, 0, 0, 0, 0, 6, 0, 0, UsageSource::reported});
}

TEST_CASE("interleaved tool calls are refused rather than mixed up", "[dialect]") {
  const std::string text =
      delta(R"("tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}])") +
      delta(R"("tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}])") +
      delta(R"("tool_calls":[{"index":0,"function":{"arguments":"}"}}])");
  const auto answer = read_answer(Dialect::openai, context_of(events), {text});
  REQUIRE(answer.error);
  CHECK(answer.error->message.find("interleaved") != std::string::npos);
}

TEST_CASE("the reader knows whether the answer is inside a tool call", "[dialect]") {
  for (const CallerForm form : {stream, events}) {
    auto reader = make_answer_reader(Dialect::openai, context_of(form));
    REQUIRE(reader->feed(delta(R"("content":"a")")));
    CHECK_FALSE(reader->inside_tool_call());
    REQUIRE(reader->feed(
        delta(R"("tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}])")));
    CHECK(reader->inside_tool_call());
    REQUIRE(reader->feed(delta("", "\"tool_calls\"")));
    CHECK_FALSE(reader->inside_tool_call());
  }
  auto reader = make_answer_reader(Dialect::anthropic, context_of(stream));
  const auto text = golden("stream_tools.anthropic.sse");
  const auto cut = text.find("event: ping");
  REQUIRE(reader->feed(text.substr(0, cut)));
  CHECK(reader->inside_tool_call());
  REQUIRE(reader->feed(text.substr(cut)));
  CHECK_FALSE(reader->inside_tool_call());
}

TEST_CASE("an anthropic stream that breaks off is estimated from its input counts and its content",
          "[dialect]") {
  const auto text = golden("stream_text.anthropic.sse");
  const auto answer = read_answer(Dialect::anthropic, context_of(stream),
                                  {text.substr(0, text.find("event: message_delta"))}, false);
  CHECK(answer.usage.source == UsageSource::estimated);
  CHECK(answer.usage.input_total() == 25 + 16 + 8);
  CHECK(answer.content_bytes == std::string("Let me seeGrüße 😀 aus \"Rom\"\n").size());
  CHECK(answer.usage.output_total() == (answer.content_bytes + 3) / 4);
}

TEST_CASE("usage that never came stays absent", "[dialect]") {
  const auto answer = read_answer(Dialect::openai, context_of(stream),
                                  {delta(R"("content":"a\u00e4")") + delta("", "\"stop\"") + done});
  CHECK(answer.done);
  CHECK(answer.usage.source == UsageSource::absent);
  CHECK(answer.content_bytes == 3);
}

TEST_CASE("several choices of one stream finish each by itself", "[dialect]") {
  const auto choice = [](int index, const std::string& text, const std::string& finish) {
    return chunk(R"("choices":[{"index":)" + std::to_string(index) + R"(,"delta":{"content":")" +
                 text + R"("},"finish_reason":)" + finish + "}]");
  };
  const std::string text =
      choice(0, "a", "null") + choice(1, "b", "null") + choice(0, "", "\"stop\"");
  CHECK(read_answer(Dialect::openai, context_of(stream), {text}).error);
  const auto answer =
      read_answer(Dialect::openai, context_of(stream), {text + choice(1, "", "\"length\"")});
  CHECK(answer.done);
  CHECK(answer.content_bytes == 2);
}

TEST_CASE("what follows the end of an answer reaches nobody", "[dialect]") {
  const std::string text = delta(R"("content":"a")") + delta("", "\"stop\"") + done;
  const auto answer =
      read_answer(Dialect::openai, context_of(stream), {text + delta(R"("content":"late")")});
  CHECK(answer.done);
  CHECK(answer.bytes == text);
}

TEST_CASE("hostile answers end as errors", "[dialect]") {
  const auto dialect = GENERATE(Dialect::openai, Dialect::anthropic);
  const auto form = GENERATE(stream, events, whole);
  for (const std::string& body :
       {std::string("data: ") + std::string(100'000, '[') + "\n\n",
        std::string(3'000'000, ':') + "\n\n", std::string("{") + std::string(100'000, '['),
        std::string(1'000, '\0') + "\n\n",
        std::string("data: {\"type\":\"message_start\",\"message\":") + std::string(5'000, '{') +
            "\n\n",
        std::string("data: {\"choices\":[{\"delta\":{\"content\":\"\\ud800\"}}]}\n\n"),
        std::string("data: {\"choices\":[{\"index\":1e400}]}\n\n"), std::string("\xff\xfe\n\n")}) {
    const auto answer = read_answer(dialect, context_of(form), {body});
    INFO(body.substr(0, 60));
    CHECK(answer.error);
    CHECK_FALSE(answer.done);
  }
}

TEST_CASE("multi-line data and other line ends pass too", "[dialect]") {
  const std::string text =
      "data: {\"choices\":[{\"index\":0,\r\ndata: "
      "\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\r\n\r\ndata: [DONE]\r\n\r\n";
  for (std::size_t at = 0; at <= text.size(); ++at) {
    const auto answer =
        read_answer(Dialect::openai, context_of(stream), {text.substr(0, at), text.substr(at)});
    INFO("split at " << at);
    REQUIRE(answer.done);
    REQUIRE(answer.bytes.size() >= text.size() - 1);
    REQUIRE(text.starts_with(answer.bytes));
  }
}

}  // namespace dialect_answer_test
