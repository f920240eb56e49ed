#include "cluster/response_builder.hpp"

#include <variant>

namespace outlast::cluster {

bool ResponseBuilder::add(std::span<const chat::Event> events) {
  for (const chat::Event& event : events) {
    if (bytes_ > response_bytes_max) return false;
    add(event);
  }
  return bytes_ <= response_bytes_max;
}

void ResponseBuilder::add(const chat::Event& event) {
  if (const auto* start = std::get_if<chat::Start>(&event)) {
    response_.id = start->id;
    response_.model = start->model;
  } else if (const auto* text = std::get_if<chat::TextDelta>(&event)) {
    bytes_ += text->text.size();
    response_.text += text->text;
  } else if (const auto* reasoning = std::get_if<chat::ReasoningDelta>(&event)) {
    bytes_ += reasoning->text.size();
    response_.reasoning += reasoning->text;
  } else if (const auto* call = std::get_if<chat::ToolCallStart>(&event)) {
    bytes_ += call->id.size() + call->name.size() + sizeof(chat::ToolCall);
    response_.tool_calls.push_back({call->id, call->name, {}});
  } else if (const auto* delta = std::get_if<chat::ToolCallDelta>(&event)) {
    bytes_ += delta->arguments.size();
    if (!response_.tool_calls.empty()) response_.tool_calls.back().arguments += delta->arguments;
  } else if (const auto* finish = std::get_if<chat::Finish>(&event)) {
    response_.reason = finish->reason;
    response_.usage = finish->usage;
  }
}

}  // namespace outlast::cluster
