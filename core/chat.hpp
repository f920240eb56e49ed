// The typed form of a chat: what dialects translate through and what Cap'n Proto frames carry.
// A field that a dialect lacks is dropped by that dialect's writer; `extra_json` carries what only some know.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/usage.hpp"

namespace outlast::chat {

enum class Role : std::uint8_t { system = 0, user = 1, assistant = 2, tool = 3 };

// `cache_control` is a provider's cache marker on this part, as JSON text; empty for none.
struct Text {
  std::string text;
  std::string cache_control = {};
  bool operator==(const Text&) const = default;
};
struct Image {
  std::string media_type;  // "image/png"; empty for a URL
  std::string data;        // base64; empty for a URL
  std::string url;
  std::string cache_control = {};
  bool operator==(const Image&) const = default;
};
// The assistant asks for a tool. `arguments` is JSON text as the model wrote it.
struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;
  bool operator==(const ToolCall&) const = default;
};
struct ToolResult {
  std::string tool_call_id;
  std::string content;
  bool is_error = false;
  std::string cache_control = {};
  bool operator==(const ToolResult&) const = default;
};
using Part = std::variant<Text, Image, ToolCall, ToolResult>;

struct Message {
  Role role = Role::user;
  std::vector<Part> parts;
  bool operator==(const Message&) const = default;
};

struct Tool {
  std::string name;
  std::string description;
  std::string parameters;  // a JSON schema, as JSON text; empty for none
  std::string cache_control = {};
  bool operator==(const Tool&) const = default;
};

enum class ToolChoice : std::uint8_t { automatic = 0, none = 1, required = 2, named = 3 };

struct Request {
  std::string model;  // a route or a model name
  std::vector<Message> messages;
  std::vector<Tool> tools;
  ToolChoice tool_choice = ToolChoice::automatic;
  std::string tool_choice_name;  // with ToolChoice::named
  std::optional<bool> parallel_tool_calls;
  std::optional<std::uint64_t> max_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::vector<std::string> stop;
  std::string user;        // the caller's end user, as an opaque text
  bool stream = false;
  bool include_usage = false;  // the caller asked for usage in the stream
  std::string extra_json;  // further top-level fields as the inside of a JSON object, `"seed":7,"n":1`; may be empty
  // What the caller calls the request, for budgets and reports (core/request_labels.hpp); no provider gets them.
  std::vector<std::string> tags = {};
  std::string session = {};
  bool operator==(const Request&) const = default;
};

enum class StopReason : std::uint8_t { none = 0, stop = 1, length = 2, tool_calls = 3, content_filter = 4 };

// One answer as a stream. Legal order, enforced by gateway/event_order.hpp:
//   Start, (TextDelta | ReasoningDelta | ToolCallStart (its ToolCallDelta)* )*, Finish
struct Start {
  std::string id;
  std::string model;  // as the provider named it
  bool operator==(const Start&) const = default;
};
struct TextDelta {
  std::string text;
  bool operator==(const TextDelta&) const = default;
};
struct ReasoningDelta {
  std::string text;
  bool operator==(const ReasoningDelta&) const = default;
};
struct ToolCallStart {
  std::uint32_t index = 0;  // 0, 1, … without gaps
  std::string id;
  std::string name;
  bool operator==(const ToolCallStart&) const = default;
};
struct ToolCallDelta {
  std::uint32_t index = 0;  // that of the latest ToolCallStart
  std::string arguments;    // a fragment of JSON text
  bool operator==(const ToolCallDelta&) const = default;
};
struct Finish {
  StopReason reason = StopReason::stop;
  Usage usage;
  bool operator==(const Finish&) const = default;
};
using Event = std::variant<Start, TextDelta, ReasoningDelta, ToolCallStart, ToolCallDelta, Finish>;

// A whole answer.
struct Response {
  std::string id;
  std::string model;
  std::string text;
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
  StopReason reason = StopReason::stop;
  Usage usage;
  bool operator==(const Response&) const = default;
};

}  // namespace outlast::chat
