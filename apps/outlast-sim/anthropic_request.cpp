#include <algorithm>
#include <set>
#include <utility>

#include "apps/outlast-sim/request_fields.hpp"

namespace outlast::sim {
namespace {

// Running counts while the blocks are read in order: what stands before a cache mark is cached.
struct CacheMarks {
  std::uint64_t counted = 0;    // tokens so far
  std::uint64_t marked_5m = 0;  // counted at the latest mark of that life
  std::uint64_t marked_1h = 0;
  std::uint64_t marked_before_answer = 0;  // the latest mark of an earlier turn: read, not written

  void mark(const Json& block) {
    const auto control = block.find("cache_control");
    if (control == block.end() || !control->is_object()) return;
    (text_of(*control, "ttl") == "1h" ? marked_1h : marked_5m) = counted;
  }
  void answered() { marked_before_answer = std::max(marked_5m, marked_1h); }
};

struct Turn {
  std::set<std::string> tool_uses;
  std::set<std::string> tool_results;
  std::string text;
  bool ends_with_tool_result = false;
};

std::string read_anthropic_block(const Json& block, CacheMarks& marks, Turn& turn) {
  if (!block.is_object()) return "every block must be an object";
  const std::string type = text_of(block, "type");
  turn.ends_with_tool_result = type == "tool_result";
  if (type == "text") {
    const std::string text = text_of(block, "text");
    if (text.empty()) return "text content blocks must be non-empty";
    marks.counted += count_tokens(text);
    turn.text += text;
  } else if (type == "image") {
    const auto source = block.find("source");
    const std::string kind =
        source != block.end() && source->is_object() ? text_of(*source, "type") : "";
    const bool whole = kind == "url"
                           ? !text_of(*source, "url").empty()
                           : kind == "base64" && !text_of(*source, "media_type").empty() &&
                                 !text_of(*source, "data").empty();
    if (!whole) return "image.source: expected base64 with media_type and data, or url";
    marks.counted += image_tokens;
  } else if (type == "tool_use") {
    const auto input = block.find("input");
    if (input == block.end() || !input->is_object()) return "tool_use.input: an object is required";
    if (text_of(block, "id").empty() || text_of(block, "name").empty()) {
      return "tool_use: id and name are required";
    }
    turn.tool_uses.insert(text_of(block, "id"));
    marks.counted += count_tokens(input->dump());
  } else if (type == "tool_result") {
    turn.tool_results.insert(text_of(block, "tool_use_id"));
    const auto content = block.find("content");
    if (content != block.end()) marks.counted += count_tokens(content->dump());
  } else if (type != "thinking" && type != "redacted_thinking") {
    return "unknown block type '" + type + "'";
  }
  marks.mark(block);
  return {};
}

std::string read_anthropic_content(const Json& content, CacheMarks& marks, Turn& turn) {
  if (content.is_string()) {
    turn.text = content.get<std::string>();
    if (turn.text.empty()) return "content must be non-empty";
    marks.counted += count_tokens(turn.text);
    return {};
  }
  if (!content.is_array() || content.empty())
    return "content: a string or a non-empty array is required";
  for (const Json& block : content) {
    if (std::string problem = read_anthropic_block(block, marks, turn); !problem.empty())
      return problem;
  }
  return {};
}

std::string read_anthropic_messages(const Json& messages, SimRequest& request, CacheMarks& marks) {
  std::set<std::string> open_uses;
  std::size_t index = 0;
  for (const Json& message : messages) {
    const std::string where = "messages." + std::to_string(index++) + ": ";
    const std::string role = text_of(message, "role");
    if (role != "user" && role != "assistant") {
      return where + "role: 'user' or 'assistant' is required, not '" + role + "'";
    }
    if (index == 1 && role != "user") return where + "the first message must use the 'user' role";
    const auto content = message.find("content");
    if (content == message.end()) return where + "content: Field required";
    Turn turn;
    if (std::string problem = read_anthropic_content(*content, marks, turn); !problem.empty()) {
      return where + problem;
    }
    if (turn.tool_results != open_uses) {
      return where + "`tool_use` ids and the `tool_result` blocks of the next message do not agree";
    }
    if (role == "user" && !turn.tool_uses.empty())
      return where + "`tool_use` belongs to the assistant";
    open_uses = std::move(turn.tool_uses);
    request.ends_with_tool_result = turn.ends_with_tool_result;
    if (role == "assistant") {
      marks.answered();
    } else if (!turn.text.empty()) {
      request.last_user_text = std::move(turn.text);
    }
  }
  return open_uses.empty() ? std::string() : "messages: `tool_use` at the end has no `tool_result`";
}

std::string read_anthropic_tools(const Json& root, SimRequest& request, CacheMarks& marks) {
  if (const auto tools = root.find("tools"); tools != root.end()) {
    if (!tools->is_array()) return "tools: an array is required";
    for (const Json& tool : *tools) {
      if (!tool.is_object() || text_of(tool, "name").empty()) return "tools: name: Field required";
      const auto schema = tool.find("input_schema");
      if (schema == tool.end() || !schema->is_object() || text_of(*schema, "type") != "object") {
        return "tools: input_schema.type: 'object' is required";
      }
      request.tools.push_back({text_of(tool, "name"), schema->dump()});
      marks.counted += count_tokens(tool.dump());
      marks.mark(tool);
    }
  }
  const auto choice = root.find("tool_choice");
  if (choice == root.end() || choice->is_null()) return {};
  if (!choice->is_object()) return "tool_choice: an object is required";
  const std::string type = text_of(*choice, "type");
  if (type == "none") {
    request.tool_choice = SimToolChoice::none;
  } else if (type == "any" || type == "tool") {
    if (request.tools.empty()) return "tool_choice may only be specified while providing tools";
    request.tool_choice = SimToolChoice::required;
    request.tool_choice_name = text_of(*choice, "name");
  } else if (type != "auto") {
    return "tool_choice.type: auto, any, tool or none is required";
  }
  return {};
}

std::string read_anthropic_system(const Json& root, CacheMarks& marks) {
  const auto system = root.find("system");
  if (system == root.end() || system->is_null()) return {};
  Turn ignored;
  const std::string problem = read_anthropic_content(*system, marks, ignored);
  return problem.empty() ? std::string() : "system: " + problem;
}

}  // namespace

ChatRequestResult read_anthropic_request(std::string_view body,
                                         const std::vector<std::string>& models) {
  SimRequest request;
  auto root = read_common(body, request, {"system", "messages", "tools"});
  if (!root) return tl::unexpected(root.error());
  if (!known_model(models, request.model)) {
    return tl::unexpected(ApiError{404, "not_found_error", "", "", "model: " + request.model});
  }
  if (!root->contains("max_tokens")) return invalid("max_tokens: Field required");
  if (!read_bound(*root, "max_tokens", request.max_tokens) || request.max_tokens == 0) {
    return invalid("max_tokens: a positive integer is required");
  }
  CacheMarks marks;
  if (std::string problem = read_anthropic_tools(*root, request, marks); !problem.empty()) {
    return invalid(std::move(problem));
  }
  if (std::string problem = read_anthropic_system(*root, marks); !problem.empty()) {
    return invalid(std::move(problem));
  }
  if (std::string problem = read_anthropic_messages((*root)["messages"], request, marks);
      !problem.empty()) {
    return invalid(std::move(problem));
  }
  // What an earlier turn marked is read; what lies between it and later marks is written.
  request.cache_read_tokens = marks.marked_before_answer;
  const std::uint64_t until_1h = std::max(marks.marked_1h, request.cache_read_tokens);
  const std::uint64_t until_5m = std::max(marks.marked_5m, until_1h);
  request.cache_write_1h_tokens = until_1h - request.cache_read_tokens;
  request.cache_write_5m_tokens = until_5m - until_1h;
  request.input_tokens = marks.counted - until_5m;
  return request;
}

}  // namespace outlast::sim
