#include "gateway/openai_chunk.hpp"

#include "gateway/failure_reader.hpp"
#include "gateway/usage_reader.hpp"

namespace outlast::gateway {
namespace {

constexpr std::uint64_t choices_max = 128;
constexpr std::string_view end_marker = "[DONE]";

std::uint64_t tool_call_bytes(const JsonValue& calls) {
  std::uint64_t bytes = 0;
  for (auto call = calls.children(); call.next();) {
    const JsonValue function = call.value()["function"];
    bytes += function["name"].string_or("").size() + function["arguments"].string_or("").size();
  }
  return bytes;
}

}  // namespace

chat::StopReason read_finish_reason(std::string_view reason) {
  if (reason == "stop") return chat::StopReason::stop;
  if (reason == "tool_calls" || reason == "function_call") return chat::StopReason::tool_calls;
  if (reason == "content_filter") return chat::StopReason::content_filter;
  return chat::StopReason::length;  // an unknown reason must not pass for a natural end
}

std::string_view finish_reason_name(chat::StopReason reason) {
  switch (reason) {
    case chat::StopReason::length: return "length";
    case chat::StopReason::tool_calls: return "tool_calls";
    case chat::StopReason::content_filter: return "content_filter";
    case chat::StopReason::none:
    case chat::StopReason::stop: break;
  }
  return "stop";
}

std::string_view reasoning_of(const JsonValue& delta) {
  if (const auto text = delta["reasoning_content"].string()) return *text;
  return delta["reasoning"].string_or("");
}

Result<void> read_openai_whole(const JsonValue& root, std::string_view body, AnswerState& state) {
  if (root["error"].is_set()) {
    state.failure = read_stream_error(Dialect::openai, root, body);
    return {};
  }
  if (!root["choices"].children().next()) {
    return fail(DialectError::malformed_answer, "the answer has no 'choices'");
  }
  const Usage usage = read_openai_usage(root["usage"]);
  if (usage.source == UsageSource::reported) state.usage = usage;
  read_openai_terms(root, state.terms);
  for (auto choice = root["choices"].children(); choice.next();) {
    const JsonValue message = choice.value()["message"];
    state.content_bytes += message["content"].string_or("").size() +
                           message["refusal"].string_or("").size() + reasoning_of(message).size() +
                           tool_call_bytes(message["tool_calls"]);
  }
  state.done = true;
  return {};
}

Result<OpenaiChunkWatch::Chunk> OpenaiChunkWatch::read(std::string_view event,
                                                       std::string_view data) {
  Chunk chunk;
  root_ = {};
  if (data == end_marker) {
    state_.done = true;
    state_.inside_tool_call = false;
    return chunk;
  }
  if (data.empty()) return chunk;  // some backends keep the connection alive so
  auto parsed = document_.parse(data);
  if (!parsed || !parsed->is_object()) {
    return fail(DialectError::malformed_answer, "a chunk of the stream is not a JSON object" +
                                                    (parsed ? "" : ": " + parsed.error().message));
  }
  root_ = *parsed;
  if (event == "error" || root_["error"].is_set()) {
    state_.failure = read_stream_error(Dialect::openai, root_, data);
    return chunk;
  }
  const JsonValue choices = root_["choices"];
  bool empty = true;
  for (auto choice = choices.children(); choice.next();) {
    empty = false;
    chunk.content = read_choice(choice.value()) || chunk.content;
  }
  if (const JsonValue usage = root_["usage"]; usage.is_object()) {
    const Usage counted = read_openai_usage(usage);
    if (counted.source == UsageSource::reported) state_.usage = counted;
    chunk.usage_only = empty;
    terms_due_ = true;
  }
  // They are the same in every chunk: the first and the last tell, and the rest cost no look-up.
  if (terms_due_) read_openai_terms(root_, state_.terms);
  terms_due_ = false;
  return chunk;
}

bool OpenaiChunkWatch::read_choice(const JsonValue& choice) {
  const auto index = choice["index"].count().value_or(0);
  const unsigned __int128 bit =
      index < choices_max ? static_cast<unsigned __int128>(1) << index : 0;
  choices_seen_ |= bit;
  const JsonValue delta = choice["delta"];
  const JsonValue calls = delta["tool_calls"];
  std::uint64_t bytes = delta["content"].string_or("").size() +
                        delta["refusal"].string_or("").size() + reasoning_of(delta).size();
  bool content = bytes > 0;
  if (calls.is_array() || delta["function_call"].is_set()) {
    const std::uint64_t call_bytes = tool_call_bytes(calls);
    content =
        content || call_bytes > 0 || calls.children().next() || delta["function_call"].is_set();
    state_.inside_tool_call = state_.inside_tool_call || content;
    bytes += call_bytes;
  }
  // Audio and content in parts are content too; their size says nothing about tokens.
  content = content || delta["audio"].is_set() || delta["content"].children().next();
  state_.content_bytes += bytes;
  if (choice["finish_reason"].is_set()) {
    choices_finished_ |= bit;
    content = true;
    if (choices_finished()) state_.inside_tool_call = false;
  }
  return content;
}

}  // namespace outlast::gateway
