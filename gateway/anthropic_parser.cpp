// Answers of Anthropic's messages as typed events. The order of the stream is enforced:
// message_start, blocks with strictly increasing indexes that never interleave, message_delta,
// message_stop; ping anywhere, error instead of any.
#include "gateway/answer_parser.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/event_order.hpp"
#include "gateway/failure_reader.hpp"
#include "gateway/json_reader.hpp"
#include "gateway/usage_reader.hpp"

namespace outlast::gateway {
namespace {

// A block's kind, as far as its content is translated. `other` (server tools and what comes later)
// is read over.
enum class BlockKind : std::uint8_t { text, thinking, tool_use, other };

BlockKind kind_of(std::string_view type) {
  if (type == "text") return BlockKind::text;
  if (type == "thinking" || type == "redacted_thinking") return BlockKind::thinking;
  return type == "tool_use" ? BlockKind::tool_use : BlockKind::other;
}

chat::StopReason read_stop_reason(std::string_view reason, bool called_tools) {
  if (reason == "end_turn" || reason == "stop_sequence") return chat::StopReason::stop;
  if (reason == "tool_use") return chat::StopReason::tool_calls;
  if (reason == "refusal") return chat::StopReason::content_filter;
  if (reason.empty()) return called_tools ? chat::StopReason::tool_calls : chat::StopReason::stop;
  // max_tokens, model_context_window_exceeded; pause_turn too, which wants a continuation and must
  // not pass for an end; and so must no reason that is not known yet.
  return chat::StopReason::length;
}

class AnthropicParser final : public AnswerParser {
 public:
  Result<void> event(const http::SseEvent& event, std::vector<chat::Event>& out) override;
  Result<void> whole(std::string_view body, std::vector<chat::Event>& out) override;
  void end(std::vector<chat::Event>&) override {}
  [[nodiscard]] const AnswerState& state() const override { return state_; }

 private:
  enum class Phase : std::uint8_t { fresh, between_blocks, in_block, closing, stopped };

  Result<void> emit(chat::Event event, std::vector<chat::Event>& out);
  Result<void> message_start(const JsonValue& root, std::vector<chat::Event>& out);
  Result<void> block_start(const JsonValue& root, std::vector<chat::Event>& out);
  Result<void> block_delta(const JsonValue& root, std::vector<chat::Event>& out);
  Result<void> block_stop(const JsonValue& root, std::vector<chat::Event>& out);
  Result<void> message_delta(const JsonValue& root);
  Result<void> message_stop(std::vector<chat::Event>& out);

  Result<void> text(std::string_view text, std::vector<chat::Event>& out);
  Result<void> reasoning(std::string_view text, std::vector<chat::Event>& out);
  Result<void> tool_start(const JsonValue& block, std::vector<chat::Event>& out);
  Result<void> tool_arguments(std::string_view fragment, std::vector<chat::Event>& out);
  // A tool call's arguments must be JSON: what stood in its start, or {}, where no fragment came.
  Result<void> tool_stop(std::vector<chat::Event>& out);
  Result<void> finish(std::string_view reason, std::vector<chat::Event>& out);
  void count_usage(const JsonValue& usage, bool final);

  JsonDocument document_;
  AnswerState state_;
  AnthropicUsage usage_;
  EventOrder order_;
  Phase phase_ = Phase::fresh;
  BlockKind block_ = BlockKind::other;
  std::optional<std::uint64_t> block_index_;
  std::string tool_input_;  // of the block's start
  bool tool_fragments_ = false;
  std::string stop_reason_;
};

Result<void> AnthropicParser::emit(chat::Event event, std::vector<chat::Event>& out) {
  if (auto legal = order_.accept(event); !legal) return legal;
  out.push_back(std::move(event));
  return {};
}

Result<void> AnthropicParser::event(const http::SseEvent& event, std::vector<chat::Event>& out) {
  if (event.data.empty()) return {};
  auto root = document_.parse(event.data);
  if (!root || !root->is_object()) {
    return malformed("an event of the stream is not a JSON object" +
                     (root ? "" : ": " + root.error().message));
  }
  const std::string_view type = (*root)["type"].string_or(event.event);
  Result<void> read;
  if (type == "error") state_.failure = read_stream_error(Dialect::anthropic, *root, event.data);
  else if (type == "message_start") read = message_start(*root, out);
  else if (type == "content_block_start") read = block_start(*root, out);
  else if (type == "content_block_delta") read = block_delta(*root, out);
  else if (type == "content_block_stop") read = block_stop(*root, out);
  else if (type == "message_delta") read = message_delta(*root);
  else if (type == "message_stop") read = message_stop(out);
  // `ping`, and event types that are not known yet, may come anywhere.
  if (read && (type.starts_with("content_block") || type.starts_with("message_"))) {
    if (state_.usage.source != UsageSource::reported)
      state_.usage = usage_.usage(state_.content_bytes);
  }
  return read;
}

void AnthropicParser::count_usage(const JsonValue& usage, bool final) {
  usage_.merge(usage, final);
  read_anthropic_terms(usage, state_.terms);
  state_.usage = usage_.usage(state_.content_bytes);
}

Result<void> AnthropicParser::message_start(const JsonValue& root, std::vector<chat::Event>& out) {
  if (phase_ != Phase::fresh) return malformed("message_start comes twice");
  phase_ = Phase::between_blocks;
  const JsonValue message = root["message"];
  count_usage(message["usage"], false);
  return emit(chat::Start{std::string(message["id"].string_or("")),
                          std::string(message["model"].string_or(""))},
              out);
}

Result<void> AnthropicParser::block_start(const JsonValue& root, std::vector<chat::Event>& out) {
  if (phase_ != Phase::between_blocks)
    return malformed("content_block_start inside a block or outside of a message");
  const auto index = root["index"].count();
  if (!index || (block_index_ && *index <= *block_index_))
    return malformed("a block's index does not increase");
  phase_ = Phase::in_block;
  block_index_ = index;
  const JsonValue block = root["content_block"];
  block_ = kind_of(block["type"].string_or(""));
  switch (block_) {
    case BlockKind::text: return text(block["text"].string_or(""), out);
    case BlockKind::thinking: return reasoning(block["thinking"].string_or(""), out);
    case BlockKind::tool_use: return tool_start(block, out);
    case BlockKind::other: break;
  }
  return {};
}

Result<void> AnthropicParser::block_delta(const JsonValue& root, std::vector<chat::Event>& out) {
  if (phase_ != Phase::in_block || root["index"].count() != block_index_) {
    return malformed("content_block_delta outside of its block");
  }
  const JsonValue delta = root["delta"];
  const std::string_view type = delta["type"].string_or("");
  const auto misfit = [type] {
    return malformed("a delta of type '" + std::string(type) + "' does not fit its block");
  };
  if (type == "text_delta") {
    return block_ == BlockKind::text ? text(delta["text"].string_or(""), out)
                                     : Result<void>(misfit());
  }
  if (type == "thinking_delta") {
    return block_ == BlockKind::thinking ? reasoning(delta["thinking"].string_or(""), out)
                                         : Result<void>(misfit());
  }
  if (type == "input_json_delta") {
    if (block_ == BlockKind::tool_use)
      return tool_arguments(delta["partial_json"].string_or(""), out);
    return block_ == BlockKind::other ? Result<void>() : Result<void>(misfit());
  }
  if (type == "signature_delta" && block_ != BlockKind::thinking) return misfit();
  if (type == "citations_delta" && block_ != BlockKind::text) return misfit();
  return {};
}

Result<void> AnthropicParser::block_stop(const JsonValue& root, std::vector<chat::Event>& out) {
  if (phase_ != Phase::in_block || root["index"].count() != block_index_) {
    return malformed("content_block_stop outside of its block");
  }
  phase_ = Phase::between_blocks;
  return block_ == BlockKind::tool_use ? tool_stop(out) : Result<void>();
}

Result<void> AnthropicParser::message_delta(const JsonValue& root) {
  if (phase_ != Phase::between_blocks && phase_ != Phase::closing) {
    return malformed("message_delta inside a block or outside of a message");
  }
  phase_ = Phase::closing;
  if (const auto reason = root["delta"]["stop_reason"].string()) stop_reason_ = *reason;
  count_usage(root["usage"], true);
  return {};
}

Result<void> AnthropicParser::message_stop(std::vector<chat::Event>& out) {
  if (phase_ != Phase::closing) return malformed("message_stop comes without message_delta");
  return finish(stop_reason_, out);
}

Result<void> AnthropicParser::text(std::string_view text, std::vector<chat::Event>& out) {
  state_.content_bytes += text.size();
  return text.empty() ? Result<void>() : emit(chat::TextDelta{std::string(text)}, out);
}

Result<void> AnthropicParser::reasoning(std::string_view text, std::vector<chat::Event>& out) {
  state_.content_bytes += text.size();
  return text.empty() ? Result<void>() : emit(chat::ReasoningDelta{std::string(text)}, out);
}

Result<void> AnthropicParser::tool_start(const JsonValue& block, std::vector<chat::Event>& out) {
  const std::uint32_t number = order_.tool_calls();
  const std::string_view id = block["id"].string_or("");
  const std::string_view name = block["name"].string_or("");
  if (name.empty()) return malformed("a tool_use block has no name");
  tool_fragments_ = false;
  tool_input_ = block["input"].is_object() ? block["input"].to_json() : "{}";
  state_.inside_tool_call = true;
  state_.content_bytes += name.size();
  return emit(
      chat::ToolCallStart{number, id.empty() ? "call_" + std::to_string(number) : std::string(id),
                          std::string(name)},
      out);
}

Result<void> AnthropicParser::tool_arguments(std::string_view fragment,
                                             std::vector<chat::Event>& out) {
  if (fragment.empty()) return {};
  tool_fragments_ = true;
  state_.content_bytes += fragment.size();
  return emit(chat::ToolCallDelta{order_.tool_calls() - 1, std::string(fragment)}, out);
}

Result<void> AnthropicParser::tool_stop(std::vector<chat::Event>& out) {
  return tool_fragments_ ? Result<void>() : tool_arguments(tool_input_, out);
}

Result<void> AnthropicParser::finish(std::string_view reason, std::vector<chat::Event>& out) {
  phase_ = Phase::stopped;
  state_.inside_tool_call = false;
  state_.done = true;
  return emit(chat::Finish{read_stop_reason(reason, order_.tool_calls() > 0), state_.usage}, out);
}

Result<void> AnthropicParser::whole(std::string_view body, std::vector<chat::Event>& out) {
  const auto root = document_.parse(body);
  if (!root) return malformed("the answer is not JSON: " + root.error().message);
  if ((*root)["type"].string_or("") == "error" || (*root)["error"].is_set()) {
    state_.failure = read_stream_error(Dialect::anthropic, *root, body);
    return {};
  }
  if (!(*root)["content"].is_array()) return malformed("the answer has no 'content'");
  auto read = emit(chat::Start{std::string((*root)["id"].string_or("")),
                               std::string((*root)["model"].string_or(""))},
                   out);
  for (auto block = (*root)["content"].children(); read && block.next();) {
    switch (kind_of(block.value()["type"].string_or(""))) {
      case BlockKind::text: read = text(block.value()["text"].string_or(""), out); break;
      case BlockKind::thinking:
        read = reasoning(block.value()["thinking"].string_or(""), out);
        break;
      case BlockKind::tool_use:
        read = tool_start(block.value(), out);
        if (read) read = tool_stop(out);
        break;
      case BlockKind::other: break;
    }
  }
  if (!read) return read;
  count_usage((*root)["usage"], true);
  return finish((*root)["stop_reason"].string_or(""), out);
}

}  // namespace

std::unique_ptr<AnswerParser> make_anthropic_parser() {
  return std::make_unique<AnthropicParser>();
}

}  // namespace outlast::gateway
