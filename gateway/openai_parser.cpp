// Answers of OpenAI's chat completions as typed events. Of several choices only the first is one
// answer's.
#include "gateway/event_order.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/openai_chunk.hpp"

namespace outlast::gateway {
namespace {

JsonValue first_of(const JsonValue& array) {
  auto child = array.children();
  return child.next() ? child.value() : JsonValue();
}

class OpenaiParser final : public AnswerParser {
 public:
  Result<void> event(const http::SseEvent& event, std::vector<chat::Event>& out) override;
  Result<void> whole(std::string_view body, std::vector<chat::Event>& out) override;
  void end(std::vector<chat::Event>& out) override;
  [[nodiscard]] const AnswerState& state() const override { return watch_.state(); }

 private:
  Result<void> emit(chat::Event event, std::vector<chat::Event>& out);
  Result<void> start(const JsonValue& root, std::vector<chat::Event>& out);
  Result<void> read_message(const JsonValue& message, std::vector<chat::Event>& out);
  Result<void> read_tool_call(const JsonValue& call, std::vector<chat::Event>& out);
  Result<void> finish(std::vector<chat::Event>& out);

  OpenaiChunkWatch watch_;
  EventOrder order_;
  std::optional<chat::StopReason> reason_;
  std::optional<std::uint64_t> call_index_;  // the backend's number of the latest tool call
  std::string call_id_;
};

Result<void> OpenaiParser::emit(chat::Event event, std::vector<chat::Event>& out) {
  if (auto legal = order_.accept(event); !legal) return legal;
  out.push_back(std::move(event));
  return {};
}

Result<void> OpenaiParser::start(const JsonValue& root, std::vector<chat::Event>& out) {
  if (order_.started()) return {};
  return emit(
      chat::Start{std::string(root["id"].string_or("")), std::string(root["model"].string_or(""))},
      out);
}

Result<void> OpenaiParser::event(const http::SseEvent& event, std::vector<chat::Event>& out) {
  auto chunk = watch_.read(event.event, event.data);
  if (!chunk) return fail(std::move(chunk.error()));
  if (watch_.state().failure) return {};
  if (watch_.state().done) return finish(out);
  for (auto choice = watch_.root()["choices"].children(); choice.next();) {
    if (choice.value()["index"].count().value_or(0) != 0) continue;
    if (auto started = start(watch_.root(), out); !started) return started;
    if (auto read = read_message(choice.value()["delta"], out); !read) return read;
    if (const auto reason = choice.value()["finish_reason"].string())
      reason_ = read_finish_reason(*reason);
  }
  return {};
}

Result<void> OpenaiParser::read_message(const JsonValue& message, std::vector<chat::Event>& out) {
  if (const auto text = reasoning_of(message); !text.empty()) {
    if (auto emitted = emit(chat::ReasoningDelta{std::string(text)}, out); !emitted) return emitted;
  }
  for (const std::string_view field : {"content", "refusal"}) {
    const std::string_view text = message[field].string_or("");
    if (text.empty()) continue;
    if (auto emitted = emit(chat::TextDelta{std::string(text)}, out); !emitted) return emitted;
  }
  for (auto call = message["tool_calls"].children(); call.next();) {
    if (auto read = read_tool_call(call.value(), out); !read) return read;
  }
  return {};
}

Result<void> OpenaiParser::read_tool_call(const JsonValue& call, std::vector<chat::Event>& out) {
  const auto index = call["index"].count();
  const std::string_view id = call["id"].string_or("");
  const std::string_view name = call["function"]["name"].string_or("");
  const std::string_view arguments = call["function"]["arguments"].string_or("");
  // Some backends leave the index out, or give every parallel call the same one; then a new id
  // tells.
  const bool other_index = index && (!call_index_ || *index != *call_index_);
  const bool other_id = !id.empty() && id != call_id_ && (!name.empty() || !index);
  if (order_.tool_calls() == 0 || other_index || other_id) {
    if (index && call_index_ && *index < *call_index_) {
      return malformed("fragments of tool calls are interleaved: call " + std::to_string(*index) +
                       " goes on after call " + std::to_string(*call_index_) + " has begun");
    }
    if (name.empty()) return malformed("a tool call begins without a function name");
    const std::uint32_t number = order_.tool_calls();
    call_index_ = index;
    call_id_ = id.empty() ? "call_" + std::to_string(number) : std::string(id);
    auto emitted = emit(chat::ToolCallStart{number, call_id_, std::string(name)}, out);
    if (!emitted) return emitted;
  }
  if (arguments.empty()) return {};
  return emit(chat::ToolCallDelta{order_.tool_calls() - 1, std::string(arguments)}, out);
}

Result<void> OpenaiParser::finish(std::vector<chat::Event>& out) {
  if (!reason_) return malformed("the answer ended without a finish_reason");
  return emit(chat::Finish{*reason_, watch_.state().usage}, out);
}

void OpenaiParser::end(std::vector<chat::Event>& out) {
  if (watch_.state().done || !reason_ || !watch_.choices_finished()) return;
  watch_.state().done = finish(out).has_value();
}

Result<void> OpenaiParser::whole(std::string_view body, std::vector<chat::Event>& out) {
  JsonDocument document;
  const auto root = document.parse(body);
  if (!root) return malformed("the answer is not JSON: " + root.error().message);
  if (auto read = read_openai_whole(*root, body, watch_.state()); !read || watch_.state().failure)
    return read;
  const JsonValue choice = first_of((*root)["choices"]);
  if (auto started = start(*root, out); !started) return started;
  if (auto read = read_message(choice["message"], out); !read) return read;
  reason_ = read_finish_reason(choice["finish_reason"].string_or("stop"));
  return finish(out);
}

}  // namespace

std::unique_ptr<AnswerParser> make_openai_parser() { return std::make_unique<OpenaiParser>(); }

}  // namespace outlast::gateway
