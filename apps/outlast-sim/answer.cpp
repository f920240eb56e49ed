#include "apps/outlast-sim/answer.hpp"

#include <algorithm>
#include <charconv>
#include <string_view>

#include <nlohmann/json.hpp>

#include "core/random.hpp"

namespace outlast::sim {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t answer_tokens_max = 100'000;
constexpr std::size_t argument_fragment_bytes = 8;
constexpr std::string_view vocabulary[] = {
    "the",   "river",  "keeps",   "a",       "quiet",   "promise",  "of",    "stone",     "and",
    "light", "every",  "morning", "answers", "what",    "night",    "asked", "wind",      "carries",
    "seeds", "across", "open",    "fields",  "where",   "patient",  "trees", "stand",     "water",
    "finds", "its",    "own",     "level",   "without", "counting", "years", "mountains", "listen",
    "while", "clouds", "write",   "letters", "nobody",  "sends",    "small", "birds",     "know",
    "more",  "than",   "maps",    "café",    "naïve"};

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return out;
}

// "[tokens=N]" in the text, else `otherwise`.
std::uint64_t wanted_tokens(std::string_view text, std::uint64_t otherwise) {
  constexpr std::string_view mark = "[tokens=";
  const auto at = text.find(mark);
  if (at == std::string_view::npos) return otherwise;
  std::uint64_t value = 0;
  const char* first = text.data() + at + mark.size();
  const auto read = std::from_chars(first, text.data() + text.size(), value);
  return read.ec == std::errc() ? std::min(value, answer_tokens_max) : otherwise;
}

std::vector<const SimTool*> tools_to_call(const SimRequest& request) {
  std::vector<const SimTool*> called;
  if (request.tools.empty() || request.tool_choice == SimToolChoice::none) return called;
  const bool required = request.tool_choice == SimToolChoice::required;
  if (!required && request.ends_with_tool_result) return called;
  const std::string text = lower(request.last_user_text);
  const bool every = text.find("every tool") != std::string::npos;
  for (const SimTool& tool : request.tools) {
    const bool named = required ? tool.name == request.tool_choice_name
                                : text.find(lower(tool.name)) != std::string::npos;
    if (every || named) called.push_back(&tool);
  }
  if (called.empty() && (required || text.find("tool") != std::string::npos)) {
    called.push_back(&request.tools.front());
  }
  return called;
}

// A value that the schema allows, by its type.
Json value_for(const Json& schema, Random& random) {
  if (!schema.is_object()) return "value";
  if (const auto choices = schema.find("enum");
      choices != schema.end() && choices->is_array() && !choices->empty()) {
    return (*choices)[random.below(choices->size())];
  }
  const std::string type = schema.value("type", Json("string")).is_string()
                               ? schema.value("type", Json("string")).get<std::string>()
                               : "string";
  if (type == "integer") return random.below(100);
  if (type == "number") return static_cast<double>(random.below(1000)) / 10;
  if (type == "boolean") return random.below(2) == 1;
  if (type == "array") return Json::array();
  if (type == "object") return Json::object();
  return std::string(vocabulary[random.below(std::size(vocabulary))]);
}

SimToolCall make_tool_call(const SimTool& tool, Dialect dialect, Random& random) {
  Json arguments = Json::object();
  const Json schema = Json::parse(tool.parameters, nullptr, false);
  if (schema.is_object() && schema.contains("properties") && schema["properties"].is_object()) {
    for (const auto& property : schema["properties"].items()) {
      arguments[property.key()] = value_for(property.value(), random);
    }
  }
  SimToolCall call;
  call.id = (dialect == Dialect::openai ? "call_" : "toolu_") + hex16(random.next());
  call.name = tool.name;
  const std::string text = arguments.dump(-1, ' ', true);
  for (std::size_t at = 0; at < text.size(); at += argument_fragment_bytes) {
    call.fragments.push_back(text.substr(at, argument_fragment_bytes));
  }
  return call;
}

SimChoice make_choice(const SimRequest& request, Dialect dialect, std::uint64_t words,
                      Random& random) {
  SimChoice choice;
  for (const SimTool* tool : tools_to_call(request)) {
    choice.tool_calls.push_back(make_tool_call(*tool, dialect, random));
  }
  if (!choice.tool_calls.empty()) {
    // Claude says a few words before it calls a tool; GPT does not.
    constexpr std::uint64_t words_before_tool = 4;
    words = dialect == Dialect::anthropic ? words_before_tool : 0;
  } else if (request.max_tokens != 0 && request.max_tokens < words) {
    words = request.max_tokens;
    choice.cut_by_length = true;
  }
  choice.words.reserve(words);
  for (std::uint64_t i = 0; i < words; ++i) {
    const std::string_view word = vocabulary[random.below(std::size(vocabulary))];
    choice.words.push_back(i == 0 ? std::string(word) : " " + std::string(word));
  }
  return choice;
}

}  // namespace

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += part;
  return out;
}

std::string hex16(std::uint64_t value) {
  std::string out(16, '0');
  for (auto digit = out.rbegin(); digit != out.rend(); ++digit, value >>= 4)
    *digit = "0123456789abcdef"[value & 15];
  return out;
}

SimAnswer make_answer(const SimRequest& request, Dialect dialect, std::uint64_t answer_tokens,
                      std::uint64_t seed) {
  Random random(request.content_hash ^ (seed * 0x9e3779b97f4a7c15ULL));
  SimAnswer answer;
  answer.id = hex16(random.next());
  answer.model = request.model;
  const std::uint64_t words = wanted_tokens(request.last_user_text, answer_tokens);
  for (unsigned i = 0; i < request.choices; ++i) {
    answer.choices.push_back(make_choice(request, dialect, words, random));
    const SimChoice& choice = answer.choices.back();
    answer.usage.output += choice.words.size();
    for (const SimToolCall& call : choice.tool_calls) answer.usage.output += call.fragments.size();
  }
  answer.usage.input = request.input_tokens;
  answer.usage.cache_read = request.cache_read_tokens;
  answer.usage.cache_write_5m = request.cache_write_5m_tokens;
  answer.usage.cache_write_1h = request.cache_write_1h_tokens;
  return answer;
}

}  // namespace outlast::sim
