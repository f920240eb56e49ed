#include <set>
#include <utility>

#include "apps/outlast-sim/request_fields.hpp"

namespace outlast::sim {
namespace {

constexpr unsigned choices_max = 16;

// A message's content: a string, or parts. Counts tokens and collects the text; returns what is
// wrong, or "".
std::string read_openai_content(const Json& message, SimRequest& request, std::string& text) {
  const auto content = message.find("content");
  if (content == message.end() || content->is_null()) return {};
  if (content->is_string()) {
    text = content->get<std::string>();
    request.input_tokens += count_tokens(text);
    return {};
  }
  if (!content->is_array()) return "expected a string or an array of parts";
  for (const Json& part : *content) {
    if (!part.is_object()) return "every part must be an object";
    const std::string type = text_of(part, "type");
    if (type == "text") {
      const std::string piece = text_of(part, "text");
      request.input_tokens += count_tokens(piece);
      text += piece;
    } else if (type == "image_url") {
      const auto image = part.find("image_url");
      if (image == part.end() || !image->is_object() || text_of(*image, "url").empty()) {
        return "image_url needs an object with a url";
      }
      request.input_tokens += image_tokens;
    } else if (type != "refusal") {
      return "unknown part type '" + type + "'";
    }
  }
  return {};
}

std::string read_openai_tool_calls(const Json& message, SimRequest& request,
                                   std::set<std::string>& open) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end() || calls->is_null()) return {};
  if (!calls->is_array()) return "tool_calls must be an array";
  for (const Json& call : *calls) {
    const auto function = call.is_object() ? call.find("function") : call.end();
    if (!call.is_object() || function == call.end() || !function->is_object()) {
      return "a tool call needs a function";
    }
    if (text_of(call, "id").empty() || text_of(*function, "name").empty()) {
      return "a tool call needs an id and a function name";
    }
    open.insert(text_of(call, "id"));
    request.input_tokens += count_tokens(text_of(*function, "arguments"));
  }
  return {};
}

std::string read_openai_messages(const Json& messages, SimRequest& request) {
  std::set<std::string> open_calls;
  std::size_t index = 0;
  for (const Json& message : messages) {
    const std::string where = "messages[" + std::to_string(index++) + "]: ";
    const std::string role = text_of(message, "role");
    std::string text;
    if (std::string problem = read_openai_content(message, request, text); !problem.empty()) {
      return where + problem;
    }
    request.ends_with_tool_result = role == "tool";
    if (role == "tool") {
      if (open_calls.erase(text_of(message, "tool_call_id")) == 0) {
        return where +
               "messages with role 'tool' must answer a preceding message with 'tool_calls'";
      }
      continue;
    }
    if (!open_calls.empty()) {
      return where +
             "an assistant message with 'tool_calls' must be followed by tool messages "
             "that answer each 'tool_call_id'";
    }
    if (role == "user") {
      request.last_user_text = std::move(text);
    } else if (role == "assistant") {
      if (std::string problem = read_openai_tool_calls(message, request, open_calls);
          !problem.empty()) {
        return where + problem;
      }
    } else if (role != "system" && role != "developer") {
      return where + "unknown role '" + role + "'";
    }
  }
  return open_calls.empty() ? std::string() : "messages: a tool call at the end has no answer";
}

std::string read_openai_tools(const Json& root, SimRequest& request) {
  if (const auto tools = root.find("tools"); tools != root.end() && !tools->is_null()) {
    if (!tools->is_array()) return "tools must be an array";
    for (const Json& tool : *tools) {
      const auto function = tool.is_object() ? tool.find("function") : tool.end();
      if (!tool.is_object() || text_of(tool, "type") != "function" || function == tool.end() ||
          !function->is_object() || text_of(*function, "name").empty()) {
        return "a tool needs the type 'function' and a function with a name";
      }
      const auto parameters = function->find("parameters");
      request.tools.push_back(
          {text_of(*function, "name"), parameters == function->end() ? "{}" : parameters->dump()});
      request.input_tokens += count_tokens(function->dump());
    }
  }
  const auto choice = root.find("tool_choice");
  if (choice == root.end() || choice->is_null()) return {};
  if (request.tools.empty()) return "tool_choice is only allowed when tools are given";
  if (choice->is_object()) {
    const auto function = choice->find("function");
    request.tool_choice = SimToolChoice::required;
    if (function != choice->end() && function->is_object()) {
      request.tool_choice_name = text_of(*function, "name");
    }
  } else if (*choice == "none") {
    request.tool_choice = SimToolChoice::none;
  } else if (*choice == "required") {
    request.tool_choice = SimToolChoice::required;
  } else if (*choice != "auto") {
    return "tool_choice must be none, auto, required or a function";
  }
  return {};
}

}  // namespace

ChatRequestResult read_openai_request(std::string_view body,
                                      const std::vector<std::string>& models) {
  SimRequest request;
  auto root = read_common(body, request, {"messages", "tools"});
  if (!root) return tl::unexpected(root.error());
  if (!known_model(models, request.model)) {
    return tl::unexpected(ApiError{
        404, "invalid_request_error", "model_not_found", "",
        "The model `" + request.model + "` does not exist or you do not have access to it."});
  }
  if (!read_bound(*root, "max_tokens", request.max_tokens)) {
    return invalid("Invalid 'max_tokens': a positive integer is required.", "max_tokens");
  }
  if (!read_bound(*root, "max_completion_tokens", request.max_tokens)) {
    return invalid("Invalid 'max_completion_tokens': a positive integer is required.",
                   "max_completion_tokens");
  }
  if (const auto n = root->find("n"); n != root->end() && !n->is_null()) {
    if (!n->is_number_unsigned() || n->get<std::uint64_t>() < 1 ||
        n->get<std::uint64_t>() > choices_max) {
      return invalid("Invalid 'n': a whole number from 1 to 16 is required.", "n");
    }
    request.choices = n->get<unsigned>();
  }
  if (const auto options = root->find("stream_options");
      options != root->end() && !options->is_null()) {
    if (!request.stream) {
      return invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                     "stream_options");
    }
    request.include_usage = options->is_object() && is_true(*options, "include_usage");
  }
  if (std::string problem = read_openai_messages((*root)["messages"], request); !problem.empty()) {
    return invalid(std::move(problem), "messages");
  }
  if (std::string problem = read_openai_tools(*root, request); !problem.empty()) {
    return invalid(std::move(problem), "tools");
  }
  return request;
}

}  // namespace outlast::sim
