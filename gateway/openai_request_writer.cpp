#include "core/check.hpp"
#include "core/json_writer.hpp"
#include "gateway/json_reader.hpp"
#include "gateway/openai_request.hpp"

#include <algorithm>
#include <array>

namespace outlast::gateway {
namespace {

// A place of the body and what stands there instead.
struct Edit {
  ByteRange place;
  std::string text;
};

// Fields that the typed request has a place for: their names in extra_json would repeat a key.
constexpr std::string_view typed_fields[] = {"model",
                                             "messages",
                                             "tools",
                                             "tool_choice",
                                             "parallel_tool_calls",
                                             "max_tokens",
                                             "max_completion_tokens",
                                             "temperature",
                                             "top_p",
                                             "stop",
                                             "user",
                                             "stream",
                                             "stream_options"};

std::string quoted(std::string_view text) {
  std::string json;
  JsonWriter(json).string(text);
  return json;
}

// After the model's value, which is always there: new members.
void add_member(Edit& model, std::string_view member) { model.text.append(1, ',').append(member); }

void ask_for_usage(std::string_view body, const ChatHead& head, Edit& model,
                   std::array<Edit, 3>& edits, std::size_t& count) {
  const ByteRange options = head.stream_options_value;
  if (!head.include_usage_value.empty()) {
    edits[count++] = {head.include_usage_value, "true"};
  } else if (options.empty()) {
    add_member(model, R"("stream_options":{"include_usage":true})");
  } else if (body[options.begin] != '{') {
    edits[count++] = {options, R"({"include_usage":true})"};
  } else {
    const auto inside = body.substr(options.begin + 1, options.end - options.begin - 2);
    const bool others = inside.find_first_not_of(" \t\r\n") != std::string_view::npos;
    edits[count++] = {{options.begin, options.begin + 1},
                      others ? R"({"include_usage":true,)" : R"({"include_usage":true)"};
  }
}

void write_part(JsonWriter& json, const chat::Part& part) {
  if (const auto* text = std::get_if<chat::Text>(&part)) {
    json.begin_object().key("type").string("text").key("text").string(text->text).end_object();
  } else if (const auto* image = std::get_if<chat::Image>(&part)) {
    json.begin_object().key("type").string("image_url").key("image_url").begin_object().key("url");
    json.string(image->url.empty() ? "data:" + image->media_type + ";base64," + image->data
                                   : image->url);
    json.end_object().end_object();
  }
}

void write_tool_calls(JsonWriter& json, const chat::Message& message) {
  bool any = false;
  for (const auto& part : message.parts) {
    const auto* call = std::get_if<chat::ToolCall>(&part);
    if (call == nullptr) continue;
    if (!any) json.key("tool_calls").begin_array();
    any = true;
    json.begin_object().key("id").string(call->id).key("type").string("function");
    json.key("function")
        .begin_object()
        .key("name")
        .string(call->name)
        .key("arguments")
        .string(call->arguments);
    json.end_object().end_object();
  }
  if (any) json.end_array();
}

void write_content(JsonWriter& json, const chat::Message& message) {
  std::size_t shown = 0;
  const chat::Text* only_text = nullptr;
  for (const auto& part : message.parts) {
    if (const auto* text = std::get_if<chat::Text>(&part)) ++shown, only_text = text;
    else if (std::holds_alternative<chat::Image>(part)) shown += 2;  // never a plain string
  }
  json.key("content");
  if (shown == 0 && message.role == chat::Role::assistant) {
    json.null();
  } else if (shown <= 1) {
    json.string(only_text == nullptr ? std::string_view() : std::string_view(only_text->text));
  } else {
    json.begin_array();
    for (const auto& part : message.parts) write_part(json, part);
    json.end_array();
  }
}

// A message of the tool role for each result; then the message itself, where it has more.
void write_message(JsonWriter& json, const chat::Message& message) {
  static constexpr std::string_view role_names[] = {"system", "user", "assistant", "user"};
  std::size_t others = 0;
  for (const auto& part : message.parts) {
    const auto* result = std::get_if<chat::ToolResult>(&part);
    if (result == nullptr) {
      ++others;
      continue;
    }
    json.begin_object().key("role").string("tool").key("tool_call_id").string(result->tool_call_id);
    json.key("content").string(result->content).end_object();
  }
  if (others == 0 && !message.parts.empty()) return;
  json.begin_object().key("role").string(role_names[static_cast<std::size_t>(message.role)]);
  write_content(json, message);
  write_tool_calls(json, message);
  json.end_object();
}

void write_tools(JsonWriter& json, const chat::Request& request) {
  if (request.tools.empty()) return;
  json.key("tools").begin_array();
  for (const auto& tool : request.tools) {
    json.begin_object().key("type").string("function").key("function").begin_object();
    json.key("name").string(tool.name);
    if (!tool.description.empty()) json.key("description").string(tool.description);
    if (!tool.parameters.empty()) json.key("parameters").raw(tool.parameters);
    json.end_object().end_object();
  }
  json.end_array();
  switch (request.tool_choice) {
    case chat::ToolChoice::automatic: break;
    case chat::ToolChoice::none: json.key("tool_choice").string("none"); break;
    case chat::ToolChoice::required: json.key("tool_choice").string("required"); break;
    case chat::ToolChoice::named:
      json.key("tool_choice")
          .begin_object()
          .key("type")
          .string("function")
          .key("function")
          .begin_object();
      json.key("name").string(request.tool_choice_name).end_object().end_object();
      break;
  }
  if (request.parallel_tool_calls)
    json.key("parallel_tool_calls").boolean(*request.parallel_tool_calls);
}

Result<void> check_json_texts(const chat::Request& request) {
  JsonDocument document;
  for (std::size_t i = 0; i < request.tools.size(); ++i) {
    if (request.tools[i].parameters.empty()) continue;
    const auto schema = document.parse(request.tools[i].parameters);
    if (!schema || !schema->is_object()) {
      return fail(DialectError::invalid_request,
                  "tools[" + std::to_string(i) + "].parameters is not a JSON object");
    }
  }
  if (request.extra_json.empty()) return {};
  const auto extra = document.parse("{" + request.extra_json + "}");
  if (!extra)
    return fail(DialectError::invalid_request, "extra_json is not the inside of a JSON object");
  for (auto member = extra->children(); member.next();) {
    if (std::find(std::begin(typed_fields), std::end(typed_fields), member.key()) !=
        std::end(typed_fields)) {
      return fail(DialectError::invalid_request, "extra_json repeats '" +
                                                     std::string(member.key()) +
                                                     "', which the request has a field for");
    }
    if (member.key() == "n" && member.value().count() != 1) {
      return fail(DialectError::unsupported, "'n' above 1: a typed answer has one choice");
    }
  }
  return {};
}

}  // namespace

UpstreamBody rewrite_openai_request(std::string_view body, const ChatHead& head,
                                    std::string_view model, std::uint64_t output_tokens_max) {
  check(!head.model_value.empty() && head.model_value.end <= body.size(),
        "the head is not that of the body");
  std::array<Edit, 3> edits;
  std::size_t count = 1;
  Edit& model_edit = edits[0];
  model_edit = {head.model_value, quoted(model)};
  if (!head.max_tokens) {
    if (head.max_tokens_value.empty())
      add_member(model_edit, "\"max_tokens\":" + std::to_string(output_tokens_max));
    else edits[count++] = {head.max_tokens_value, std::to_string(output_tokens_max)};
  }
  if (head.stream && !head.include_usage) ask_for_usage(body, head, model_edit, edits, count);
  std::sort(edits.begin(), edits.begin() + static_cast<std::ptrdiff_t>(count),
            [](const Edit& a, const Edit& b) { return a.place.begin < b.place.begin; });
  UpstreamBody out;
  std::size_t from = 0;
  for (std::size_t i = 0; i < count; ++i) {
    out.pass(body.substr(from, edits[i].place.begin - from));
    out.write(edits[i].text);
    from = edits[i].place.end;
  }
  out.pass(body.substr(from));
  return out;
}

Result<std::string> write_openai_request(const chat::Request& request, std::string_view model,
                                         std::uint64_t output_tokens_max) {
  if (auto valid = check_json_texts(request); !valid) return fail(std::move(valid.error()));
  if (request.messages.empty())
    return fail(DialectError::invalid_request, "the request has no messages");
  std::string body;
  JsonWriter json(body);
  json.begin_object().key("model").string(model).key("messages").begin_array();
  for (const auto& message : request.messages) write_message(json, message);
  json.end_array();
  write_tools(json, request);
  json.key("max_tokens").number(request.max_tokens.value_or(output_tokens_max));
  if (request.temperature) json.key("temperature").real(*request.temperature);
  if (request.top_p) json.key("top_p").real(*request.top_p);
  if (!request.stop.empty()) {
    json.key("stop").begin_array();
    for (const auto& stop : request.stop) json.string(stop);
    json.end_array();
  }
  if (!request.user.empty()) json.key("user").string(request.user);
  json.key("stream")
      .boolean(true)
      .key("stream_options")
      .begin_object()
      .key("include_usage")
      .boolean(true)
      .end_object();
  if (!request.extra_json.empty()) json.raw(request.extra_json);
  json.end_object();
  return body;
}

}  // namespace outlast::gateway
