#include "gateway/anthropic_request.hpp"

#include <algorithm>
#include <cctype>
#include <vector>

#include "core/json_writer.hpp"
#include "gateway/dialect.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/json_reader.hpp"

namespace outlast::gateway {
namespace {

constexpr double temperature_max = 1.0;  // OpenAI's goes to 2

// What becomes of a field that the typed request has no place for. All others are dropped.
enum class ExtraRule : std::uint8_t {
  pass,         // Anthropic's own, sent through an OpenAI SDK's extra_body
  one,          // only 1 can be said
  falsy,        // refused unless false, 0 or empty
  text_format,  // response_format: only {"type": "text"}
  text_only,    // modalities: only ["text"]
};
struct ExtraField {
  std::string_view name;
  ExtraRule rule;
};
constexpr ExtraField extra_fields[] = {
    {"thinking", ExtraRule::pass},
    {"top_k", ExtraRule::pass},
    {"output_config", ExtraRule::pass},
    {"inference_geo", ExtraRule::pass},
    {"n", ExtraRule::one},
    {"logprobs", ExtraRule::falsy},
    {"top_logprobs", ExtraRule::falsy},
    {"logit_bias", ExtraRule::falsy},
    {"functions", ExtraRule::falsy},
    {"function_call", ExtraRule::falsy},
    {"audio", ExtraRule::falsy},
    {"web_search_options", ExtraRule::falsy},
    {"response_format", ExtraRule::text_format},
    {"modalities", ExtraRule::text_only},
};

// A message of the dialect: neighbours of one role are one turn, and tool results stand first in
// theirs.
struct Turn {
  bool assistant = false;
  std::vector<std::string> results;
  std::vector<std::string> blocks;
};

bool is_falsy(const JsonValue& value) {
  if (value.boolean() == false || value.count() == 0 || value.string() == "") return true;
  return (value.is_object() || value.is_array()) && !value.children().next();
}

bool is_allowed(ExtraRule rule, const JsonValue& value) {
  switch (rule) {
    case ExtraRule::pass: return true;
    case ExtraRule::one: return value.count() == 1;
    case ExtraRule::falsy: return is_falsy(value);
    case ExtraRule::text_format: return value["type"].string() == "text";
    case ExtraRule::text_only: {
      auto child = value.children();
      return child.next() && child.value().string() == "text" && !child.next();
    }
  }
  return false;
}

// Anthropic takes letters, digits, '_' and '-'; the same on both sides of a call.
std::string tool_id(std::string_view id) {
  std::string out(id);
  for (char& c : out) {
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-') c = '_';
  }
  return out;
}

class RequestWriter {
 public:
  explicit RequestWriter(const chat::Request& request) : request_(request) {}

  Result<std::string> write(bool stream, std::string_view model, std::uint64_t output_tokens_max) {
    if (auto read = read_messages(); !read) return fail(std::move(read.error()));
    if (turns_.empty())
      return invalid(
          "'messages' has no user or assistant message with content; anthropic needs one");
    JsonWriter json(body_);
    json.begin_object().key("model").string(model);
    json.key("max_tokens").number(request_.max_tokens.value_or(output_tokens_max));
    if (!system_.empty()) json.key("system").begin_array().raw(system_).end_array();
    write_turns(json);
    if (auto tools = write_tools(json); !tools) return fail(std::move(tools.error()));
    if (!request_.stop.empty()) {
      json.key("stop_sequences").begin_array();
      for (const auto& stop : request_.stop) json.string(stop);
      json.end_array();
    }
    if (request_.temperature)
      json.key("temperature").real(std::clamp(*request_.temperature, 0.0, temperature_max));
    if (request_.top_p) json.key("top_p").real(*request_.top_p);
    if (auto extra = write_extra(json); !extra) return fail(std::move(extra.error()));
    if (!user_.empty())
      json.key("metadata").begin_object().key("user_id").string(user_).end_object();
    if (stream) json.key("stream").boolean(true);
    json.end_object();
    return std::move(body_);
  }

 private:
  Result<void> read_messages() {
    for (std::size_t i = 0; i < request_.messages.size(); ++i) {
      const auto& message = request_.messages[i];
      for (std::size_t j = 0; j < message.parts.size(); ++j) {
        const std::string path = "messages[" + std::to_string(i) + "]";
        auto read = message.role == chat::Role::system ? read_system(message.parts[j], path)
                                                       : read_part(message, message.parts[j], path);
        if (!read) return read;
      }
    }
    return {};
  }

  Result<void> read_system(const chat::Part& part, const std::string& path) {
    const auto* text = std::get_if<chat::Text>(&part);
    if (text == nullptr)
      return unsupported("'" + path + "' is a system message with more than text");
    if (text->text.empty()) return {};
    if (!system_.empty()) system_ += ',';
    write_text(*text, system_);
    return {};
  }

  Result<void> read_part(const chat::Message& message, const chat::Part& part,
                         const std::string& path) {
    const bool assistant = message.role == chat::Role::assistant;
    if (const auto* text = std::get_if<chat::Text>(&part)) {
      // Anthropic refuses empty text blocks.
      if (!text->text.empty()) write_text(*text, turn(assistant).blocks.emplace_back());
      return {};
    }
    if (const auto* image = std::get_if<chat::Image>(&part)) {
      if (assistant) return unsupported("'" + path + "' is an assistant message with an image");
      write_image(*image, turn(false).blocks.emplace_back());
      return {};
    }
    if (const auto* result = std::get_if<chat::ToolResult>(&part)) {
      if (assistant) return invalid("'" + path + "' is an assistant message with a tool's result");
      write_tool_result(*result, turn(false).results.emplace_back());
      return {};
    }
    const auto& call = std::get<chat::ToolCall>(part);
    if (!assistant) return invalid("'" + path + "' has tool calls but is not an assistant message");
    return read_tool_call(call, path);
  }

  Turn& turn(bool assistant) {
    if (turns_.empty() || turns_.back().assistant != assistant)
      turns_.push_back({assistant, {}, {}});
    return turns_.back();
  }

  static void write_cache_control(JsonWriter& json, const std::string& cache_control) {
    if (!cache_control.empty()) json.key("cache_control").raw(cache_control);
  }

  static void write_text(const chat::Text& text, std::string& out) {
    JsonWriter json(out);
    json.begin_object().key("type").string("text").key("text").string(text.text);
    write_cache_control(json, text.cache_control);
    json.end_object();
  }

  static void write_image(const chat::Image& image, std::string& out) {
    JsonWriter json(out);
    json.begin_object().key("type").string("image").key("source").begin_object();
    if (image.url.empty()) {
      json.key("type")
          .string("base64")
          .key("media_type")
          .string(image.media_type)
          .key("data")
          .string(image.data);
    } else {
      json.key("type").string("url").key("url").string(image.url);
    }
    json.end_object();
    write_cache_control(json, image.cache_control);
    json.end_object();
  }

  static void write_tool_result(const chat::ToolResult& result, std::string& out) {
    JsonWriter json(out);
    json.begin_object()
        .key("type")
        .string("tool_result")
        .key("tool_use_id")
        .string(tool_id(result.tool_call_id));
    if (!result.content.empty()) json.key("content").string(result.content);
    if (result.is_error) json.key("is_error").boolean(true);
    write_cache_control(json, result.cache_control);
    json.end_object();
  }

  Result<void> read_tool_call(const chat::ToolCall& call, const std::string& path) {
    std::string input = "{}";
    if (call.arguments.find_first_not_of(" \t\r\n") != std::string::npos) {
      const auto arguments = document_.parse(call.arguments);
      if (!arguments || !arguments->is_object()) {
        return invalid("the arguments of tool call '" + call.id.substr(0, 64) + "' in '" + path +
                       "' are not a JSON object");
      }
      input = arguments->to_json();
    }
    JsonWriter json(turn(true).blocks.emplace_back());
    json.begin_object().key("type").string("tool_use").key("id").string(tool_id(call.id));
    json.key("name").string(call.name).key("input").raw(input).end_object();
    return {};
  }

  void write_turns(JsonWriter& json) const {
    json.key("messages").begin_array();
    for (const Turn& turn : turns_) {
      json.begin_object()
          .key("role")
          .string(turn.assistant ? "assistant" : "user")
          .key("content")
          .begin_array();
      for (const auto& result : turn.results) json.raw(result);
      for (const auto& block : turn.blocks) json.raw(block);
      json.end_array().end_object();
    }
    json.end_array();
  }

  Result<void> write_tools(JsonWriter& json) {
    if (request_.tools.empty()) return {};
    json.key("tools").begin_array();
    for (const auto& tool : request_.tools) {
      std::string schema = R"({"type":"object","properties":{}})";
      if (!tool.parameters.empty()) {
        const auto parsed = document_.parse(tool.parameters);
        if (!parsed || !parsed->is_object())
          return invalid("the parameters of tool '" + tool.name + "' are not a JSON object");
        // `{}` is OpenAI's word for no parameters; Anthropic wants the type named.
        if (parsed->children().next()) schema = parsed->to_json();
      }
      json.begin_object().key("name").string(tool.name);
      if (!tool.description.empty()) json.key("description").string(tool.description);
      json.key("input_schema").raw(schema);
      write_cache_control(json, tool.cache_control);
      json.end_object();
    }
    json.end_array();
    write_tool_choice(json);
    return {};
  }

  void write_tool_choice(JsonWriter& json) const {
    const bool one_at_a_time =
        request_.parallel_tool_calls == false && request_.tool_choice != chat::ToolChoice::none;
    if (request_.tool_choice == chat::ToolChoice::automatic && !one_at_a_time) return;
    static constexpr std::string_view types[] = {"auto", "none", "any", "tool"};
    json.key("tool_choice").begin_object();
    json.key("type").string(types[static_cast<std::size_t>(request_.tool_choice)]);
    if (request_.tool_choice == chat::ToolChoice::named)
      json.key("name").string(request_.tool_choice_name);
    if (one_at_a_time) json.key("disable_parallel_tool_use").boolean(true);
    json.end_object();
  }

  Result<void> write_extra(JsonWriter& json) {
    user_ = request_.user;
    if (request_.extra_json.empty()) return {};
    const auto extra = document_.parse("{" + request_.extra_json + "}");
    if (!extra) return invalid("extra_json is not the inside of a JSON object");
    for (auto member = extra->children(); member.next();) {
      if (!member.value().is_set()) continue;
      if (member.key() == "safety_identifier" && user_.empty())
        user_ = member.value().string_or("");
      const auto* field =
          std::find_if(std::begin(extra_fields), std::end(extra_fields),
                       [&member](const ExtraField& known) { return known.name == member.key(); });
      if (field == std::end(extra_fields)) continue;
      if (!is_allowed(field->rule, member.value())) {
        return unsupported("'" + std::string(field->name) +
                           "' as given has no counterpart at an anthropic provider");
      }
      if (field->rule == ExtraRule::pass) json.key(field->name).raw(member.value().to_json());
    }
    return {};
  }

  const chat::Request& request_;
  JsonDocument document_;
  std::string body_;
  std::string system_;
  std::string user_;
  std::vector<Turn> turns_;
};

}  // namespace

Result<std::string> write_anthropic_request(const chat::Request& request, bool stream,
                                            std::string_view model,
                                            std::uint64_t output_tokens_max) {
  return RequestWriter(request).write(stream, model, output_tokens_max);
}

}  // namespace outlast::gateway
