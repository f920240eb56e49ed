#include <algorithm>

#include "core/json_writer.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/json_reader.hpp"
#include "gateway/openai_request.hpp"

namespace outlast::gateway {
namespace {

constexpr std::size_t messages_max = 100'000;
constexpr std::size_t stop_max = 16;

std::string at(std::string_view path, std::size_t index) {
  return std::string(path) + "[" + std::to_string(index) + "]";
}

std::string cache_control_of(const JsonValue& value) {
  return value["cache_control"].is_set() ? value["cache_control"].to_json() : "";
}

Result<chat::Role> read_role(const JsonValue& message, const std::string& path) {
  const auto role = message["role"].string();
  if (!role)
    return invalid("'" + path + ".role' is missing; system, user, assistant or tool is expected");
  if (*role == "system" || *role == "developer") return chat::Role::system;
  if (*role == "user") return chat::Role::user;
  if (*role == "assistant") return chat::Role::assistant;
  if (*role == "tool") return chat::Role::tool;
  if (*role == "function")
    return unsupported("'" + path + ".role' is 'function'; use 'tool' with a tool_call_id");
  return invalid("'" + path +
                 ".role' is unknown; system, developer, user, assistant or tool is expected");
}

Result<chat::Part> read_image(const JsonValue& part, const std::string& path) {
  static constexpr std::string_view marker = ";base64,";
  const JsonValue source = part["image_url"];
  const auto url = source.string() ? source.string() : source["url"].string();
  if (!url) return invalid("'" + path + ".image_url.url' is missing");
  chat::Image image;
  image.cache_control = cache_control_of(part);
  if (url->starts_with("http://") || url->starts_with("https://")) {
    image.url = *url;
    return chat::Part(std::move(image));
  }
  const std::size_t data = url->find(marker);
  if (!url->starts_with("data:") || data == std::string_view::npos) {
    return invalid("'" + path +
                   ".image_url.url' must be http://, https:// or data:MEDIA/TYPE;base64,DATA");
  }
  image.media_type = url->substr(5, data - 5);
  if (const std::size_t parameter = image.media_type.find(';'); parameter != std::string::npos) {
    image.media_type.resize(parameter);
  }
  image.data = url->substr(data + marker.size());
  if (image.media_type.empty() || image.data.empty())
    return invalid("'" + path + ".image_url.url' has no media type or no data");
  return chat::Part(std::move(image));
}

Result<chat::Part> read_part(const JsonValue& part, const std::string& path) {
  const auto type = part["type"].string();
  if (!type) return invalid("'" + path + ".type' is missing");
  if (*type == "text" || *type == "refusal") {
    const auto text = part[*type].string();
    if (!text) return invalid("'" + path + "." + std::string(*type) + "' must be a string");
    return chat::Part(chat::Text{std::string(*text), cache_control_of(part)});
  }
  if (*type == "image_url") return read_image(part, path);
  return unsupported("'" + path + ".type' is '" + std::string(type->substr(0, 32)) +
                     "'; this provider takes text and image_url");
}

Result<void> read_content(const JsonValue& content, const std::string& path,
                          std::vector<chat::Part>& parts) {
  if (!content.is_set()) return {};
  if (const auto text = content.string()) {
    parts.push_back(chat::Text{std::string(*text)});
    return {};
  }
  if (!content.is_array()) return invalid("'" + path + "' must be a string or an array of parts");
  std::size_t index = 0;
  for (auto child = content.children(); child.next(); ++index) {
    auto part = read_part(child.value(), at(path, index));
    if (!part) return fail(std::move(part.error()));
    parts.push_back(std::move(*part));
  }
  return {};
}

// A marker on the message stands for one on its last part.
void mark_last(std::vector<chat::Part>& parts, std::string cache_control) {
  if (parts.empty() || cache_control.empty()) return;
  if (auto* text = std::get_if<chat::Text>(&parts.back()))
    text->cache_control = std::move(cache_control);
  else if (auto* image = std::get_if<chat::Image>(&parts.back()))
    image->cache_control = std::move(cache_control);
  else if (auto* result = std::get_if<chat::ToolResult>(&parts.back()))
    result->cache_control = std::move(cache_control);
}

Result<void> read_tool_calls(const JsonValue& message, const std::string& path,
                             std::vector<chat::Part>& parts) {
  if (message["function_call"].is_set())
    return unsupported("'" + path + ".function_call'; use tool_calls");
  const JsonValue calls = message["tool_calls"];
  if (calls.is_set() && !calls.is_array())
    return invalid("'" + path + ".tool_calls' must be an array");
  std::size_t index = 0;
  for (auto child = calls.children(); child.next(); ++index) {
    const std::string call_path = at(path + ".tool_calls", index);
    const JsonValue call = child.value();
    if (call["type"].string_or("function") != "function")
      return unsupported("'" + call_path + ".type' other than 'function'");
    const auto id = call["id"].string();
    const auto name = call["function"]["name"].string();
    const auto arguments = call["function"]["arguments"].string();
    if (!id || id->empty()) return invalid("'" + call_path + ".id' is missing");
    if (!name || name->empty()) return invalid("'" + call_path + ".function.name' is missing");
    if (!arguments)
      return invalid("'" + call_path + ".function.arguments' must be a string of JSON");
    parts.push_back(chat::ToolCall{std::string(*id), std::string(*name), std::string(*arguments)});
  }
  return {};
}

Result<void> read_tool_result(const JsonValue& message, const std::string& path,
                              std::vector<chat::Part>& parts) {
  const auto id = message["tool_call_id"].string();
  if (!id || id->empty()) return invalid("'" + path + ".tool_call_id' is missing");
  std::vector<chat::Part> content;
  if (auto read = read_content(message["content"], path + ".content", content); !read) return read;
  chat::ToolResult result;
  result.tool_call_id = *id;
  for (auto& part : content) {
    auto* text = std::get_if<chat::Text>(&part);
    if (text == nullptr)
      return unsupported("'" + path + ".content' of a tool message with other parts than text");
    result.content += text->text;
    if (!text->cache_control.empty()) result.cache_control = std::move(text->cache_control);
  }
  parts.push_back(std::move(result));
  return {};
}

Result<void> read_messages(const JsonValue& messages, chat::Request& request) {
  if (!messages.is_array()) return invalid("'messages' must be an array");
  std::size_t index = 0;
  for (auto child = messages.children(); child.next(); ++index) {
    if (index == messages_max) return invalid("'messages' has more than 100000 messages");
    const std::string path = at("messages", index);
    if (!child.value().is_object()) return invalid("'" + path + "' must be an object");
    auto role = read_role(child.value(), path);
    if (!role) return fail(std::move(role.error()));
    chat::Message message;
    message.role = *role;
    Result<void> read;
    if (message.role == chat::Role::tool) {
      read = read_tool_result(child.value(), path, message.parts);
    } else {
      read = read_content(child.value()["content"], path + ".content", message.parts);
      if (read && message.role == chat::Role::assistant) {
        if (child.value()["audio"].is_set()) return unsupported("'" + path + ".audio'");
        if (const auto refusal = child.value()["refusal"].string())
          message.parts.push_back(chat::Text{std::string(*refusal)});
        mark_last(message.parts, cache_control_of(child.value()));
        read = read_tool_calls(child.value(), path, message.parts);
      }
    }
    if (!read) return read;
    if (message.role != chat::Role::assistant)
      mark_last(message.parts, cache_control_of(child.value()));
    request.messages.push_back(std::move(message));
  }
  return {};
}

Result<void> read_tools(const JsonValue& tools, chat::Request& request) {
  if (!tools.is_set()) return {};
  if (!tools.is_array()) return invalid("'tools' must be an array");
  std::size_t index = 0;
  for (auto child = tools.children(); child.next(); ++index) {
    const std::string path = at("tools", index);
    const JsonValue function = child.value()["function"];
    if (child.value()["type"].string_or("function") != "function")
      return unsupported("'" + path + ".type' other than 'function'");
    const auto name = function["name"].string();
    if (!name || name->empty()) return invalid("'" + path + ".function.name' is missing");
    chat::Tool tool;
    tool.name = *name;
    tool.description = function["description"].string_or("");
    if (const JsonValue parameters = function["parameters"]; parameters.is_set()) {
      if (!parameters.is_object())
        return invalid("'" + path + ".function.parameters' must be an object");
      tool.parameters = parameters.to_json();
    }
    tool.cache_control = cache_control_of(child.value());
    if (tool.cache_control.empty()) tool.cache_control = cache_control_of(function);
    request.tools.push_back(std::move(tool));
  }
  return {};
}

Result<void> read_tool_choice(const JsonValue& choice, chat::Request& request) {
  if (!choice.is_set()) return {};
  if (const auto word = choice.string()) {
    if (*word == "auto") request.tool_choice = chat::ToolChoice::automatic;
    else if (*word == "none") request.tool_choice = chat::ToolChoice::none;
    else if (*word == "required") request.tool_choice = chat::ToolChoice::required;
    else return invalid("'tool_choice' must be auto, none, required or a function");
    return {};
  }
  if (choice["type"].string_or("") != "function")
    return unsupported("'tool_choice' other than auto, none, required or a function");
  const auto name = choice["function"]["name"].string();
  if (!name || name->empty()) return invalid("'tool_choice.function.name' is missing");
  request.tool_choice = chat::ToolChoice::named;
  request.tool_choice_name = *name;
  return {};
}

Result<void> read_stop(const JsonValue& stop, chat::Request& request) {
  if (!stop.is_set()) return {};
  if (const auto text = stop.string()) {
    request.stop.emplace_back(*text);
    return {};
  }
  if (!stop.is_array()) return invalid("'stop' must be a string or an array of strings");
  for (auto child = stop.children(); child.next();) {
    const auto text = child.value().string();
    if (!text) return invalid("'stop' must be a string or an array of strings");
    if (request.stop.size() == stop_max) return invalid("'stop' has more than 16 strings");
    request.stop.emplace_back(*text);
  }
  return {};
}

Result<void> read_number(const JsonValue& value, std::string_view name,
                         std::optional<double>& number) {
  if (!value.is_set()) return {};
  number = value.number();
  return number ? Result<void>()
                : Result<void>(invalid("'" + std::string(name) + "' must be a number"));
}

Result<void> read_bound(const JsonValue& value, std::string_view name, chat::Request& request) {
  if (!value.is_set()) return {};
  const auto count = value.count();
  if (!count || *count == 0)
    return invalid("'" + std::string(name) + "' must be a whole number of at least 1");
  request.max_tokens = std::min(*count, request.max_tokens.value_or(*count));
  return {};
}

Result<void> read_flag(const JsonValue& value, std::string_view name, std::optional<bool>& flag) {
  if (!value.is_set()) return {};
  flag = value.boolean();
  return flag ? Result<void>()
              : Result<void>(invalid("'" + std::string(name) + "' must be true or false"));
}

void keep_extra(std::string_view key, const JsonValue& value, std::string& extra) {
  if (!value.is_set()) return;
  if (!extra.empty()) extra += ',';
  extra += '"';
  append_json_escaped(extra, key);
  extra += "\":";
  value.append_json(extra);
}

Result<void> read_field(std::string_view key, const JsonValue& value, chat::Request& request) {
  if (key == "messages") return read_messages(value, request);
  if (key == "tools") return read_tools(value, request);
  if (key == "tool_choice") return read_tool_choice(value, request);
  if (key == "parallel_tool_calls") return read_flag(value, key, request.parallel_tool_calls);
  if (key == "max_tokens" || key == "max_completion_tokens") return read_bound(value, key, request);
  if (key == "temperature") return read_number(value, key, request.temperature);
  if (key == "top_p") return read_number(value, key, request.top_p);
  if (key == "stop") return read_stop(value, request);
  if (key == "stream_options") {
    request.include_usage = value["include_usage"].boolean().value_or(false);
    return {};
  }
  if (key == "stream") {
    std::optional<bool> stream;
    auto read = read_flag(value, key, stream);
    request.stream = stream.value_or(false);
    return read;
  }
  if (key == "model" || key == "user") {
    if (value.is_set() && !value.string())
      return invalid("'" + std::string(key) + "' must be a string");
    (key == "model" ? request.model : request.user) = value.string_or("");
    return {};
  }
  keep_extra(key, value, request.extra_json);
  return {};
}

}  // namespace

Result<chat::Request> read_openai_request(std::string_view body) {
  JsonDocument document;
  const auto root = document.parse(body);
  if (!root) return fail(Error(root.error()));
  if (!root->is_object())
    return fail(DialectError::malformed_json, "the body must be a JSON object");
  chat::Request request;
  for (auto member = root->children(); member.next();) {
    if (auto read = read_field(member.key(), member.value(), request); !read)
      return fail(std::move(read.error()));
  }
  if (request.messages.empty()) return invalid("'messages' is missing or empty");
  return request;
}

}  // namespace outlast::gateway
