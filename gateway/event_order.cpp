#include "gateway/event_order.hpp"

#include <variant>

#include "gateway/dialect.hpp"

namespace outlast::gateway {
namespace {

Failure illegal(std::string message) {
  return fail(DialectError::malformed_answer, std::move(message));
}

}  // namespace

Result<void> EventOrder::judge(const chat::Event& event) const {
  if (state_ == State::finished) return illegal("an event after the answer's end");
  const bool start = std::holds_alternative<chat::Start>(event);
  if (start && state_ != State::fresh) return illegal("the answer starts twice");
  if (!start && state_ == State::fresh) return illegal("an event before the answer's start");
  if (const auto* call = std::get_if<chat::ToolCallStart>(&event);
      call != nullptr && call->index != tool_calls_) {
    return illegal("tool call " + std::to_string(call->index) + " starts where " +
                   std::to_string(tool_calls_) + " is due");
  }
  if (const auto* delta = std::get_if<chat::ToolCallDelta>(&event)) {
    if (state_ != State::in_tool_call)
      return illegal("a tool call's fragment outside of a tool call");
    if (delta->index + 1 != tool_calls_) {
      return illegal("a fragment of tool call " + std::to_string(delta->index) +
                     " inside tool call " + std::to_string(tool_calls_ - 1));
    }
  }
  return {};
}

Result<void> EventOrder::accept(const chat::Event& event) {
  if (auto legal = judge(event); !legal) return legal;
  if (std::holds_alternative<chat::Finish>(event)) {
    state_ = State::finished;
  } else if (std::holds_alternative<chat::ToolCallStart>(event)) {
    state_ = State::in_tool_call;
    ++tool_calls_;
  } else if (!std::holds_alternative<chat::ToolCallDelta>(event)) {
    state_ = State::open;
  }
  return {};
}

Result<void> ResponseCollector::accept(const chat::Event& event) {
  if (auto legal = order_.accept(event); !legal) return legal;
  if (const auto* start = std::get_if<chat::Start>(&event)) {
    response_.id = start->id;
    response_.model = start->model;
  } else if (const auto* text = std::get_if<chat::TextDelta>(&event)) {
    response_.text += text->text;
  } else if (const auto* reasoning = std::get_if<chat::ReasoningDelta>(&event)) {
    response_.reasoning += reasoning->text;
  } else if (const auto* call = std::get_if<chat::ToolCallStart>(&event)) {
    response_.tool_calls.push_back({call->id, call->name, ""});
  } else if (const auto* fragment = std::get_if<chat::ToolCallDelta>(&event)) {
    response_.tool_calls.back().arguments += fragment->arguments;
  } else if (const auto* finish = std::get_if<chat::Finish>(&event)) {
    response_.reason = finish->reason;
    response_.usage = finish->usage;
  }
  return {};
}

}  // namespace outlast::gateway
