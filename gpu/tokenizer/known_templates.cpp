#include "gpu/tokenizer/known_templates.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <vector>

namespace outlast::gpu {
namespace {

constexpr std::size_t shown_bytes_max = 60;
constexpr std::string_view empty_thought_in_jinja = "<think>\\n\\n</think>\\n\\n";  // as Jinja writes it

constexpr std::string_view qwen3_template =
    "{%- set ns = namespace(question=0) %}"
    "{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.question = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'assistant' %}"
    "{%- set thought = '' %}{%- set content = message.content %}"
    "{%- if '</think>' in content %}"
    "{%- set thought = content.split('</think>')[0].strip('\\n').split('<think>')[-1].strip('\\n') %}"
    "{%- set content = content.split('</think>')[-1].lstrip('\\n') %}"
    "{%- endif %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- if loop.index0 > ns.question %}{{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}{%- endif %}"
    "{{- content + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is not defined or not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}";

constexpr std::string_view qwen2_template =
    "{%- if messages[0].role != 'system' %}"
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

bool is_quote(char c) { return c == '\'' || c == '"'; }

// What stands outside of tags, and the literals within them: all that a template can say beside what people said.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::size_t at = 0;
  const auto skip_to = [&](std::string_view end) { at = std::min(text.find(end, at), text.size() - end.size()) + end.size(); };
  while (at < text.size()) {
    std::size_t tag = at;
    while (tag < text.size() && !(text[tag] == '{' && tag + 1 < text.size() && std::string_view("{%#").find(text[tag + 1]) != std::string_view::npos)) ++tag;
    words.emplace_back(text.substr(at, tag - at));
    if (tag == text.size()) break;
    const char kind = text[tag + 1];
    at = tag + 2;
    if (kind == '#') {
      skip_to("#}");
      continue;
    }
    const char end = kind == '{' ? '}' : '%';
    while (at < text.size() && !(text[at] == end && text.substr(at + 1).starts_with('}'))) {
      const char quote = text[at++];
      if (!is_quote(quote)) continue;
      std::string literal;
      for (; at < text.size() && text[at] != quote; ++at) {
        literal += text[at];
        if (text[at] == '\\' && at + 1 < text.size()) literal += text[++at];
      }
      words.push_back(std::move(literal));
      ++at;
    }
    at = std::min(at + 2, text.size());
  }
  return words;
}

std::string lower_case(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Conversations have none.
bool is_of_tools(const std::string& word) {
  const std::string lower = lower_case(word);
  constexpr std::array<std::string_view, 3> signs{"tool", "function", "arguments"};
  return std::any_of(signs.begin(), signs.end(), [&lower](std::string_view sign) { return lower.find(sign) != std::string::npos; });
}

// What is left of a word without what the format says.
std::string rest_of(std::string word, ChatFormat format) {
  constexpr std::array<std::string_view, 6> names{"system", "user", "assistant", "role", "content", "reasoning_content"};
  if (std::find(names.begin(), names.end(), word) != names.end()) return {};
  std::vector<std::string_view> known{"<|im_start|>system", "<|im_start|>user", "<|im_start|>assistant", "<|im_start|>", "<|im_end|>", "\\n", "\n", " "};
  if (format == ChatFormat::qwen3) known.insert(known.begin(), {"<think>", "</think>"});
  else known.insert(known.begin(), qwen2_system);
  for (const std::string_view part : known) {
    for (std::size_t at = word.find(part); at != std::string::npos; at = word.find(part, at)) word.erase(at, part.size());
  }
  return word;
}

std::string shown(const std::string& word) {
  if (word.size() <= shown_bytes_max) return word;
  std::size_t end = shown_bytes_max;
  while (end > 0 && (static_cast<unsigned char>(word[end]) & 0xc0) == 0x80) --end;  // whole characters
  return word.substr(0, end) + "…";
}

// Whether it says less of people's texts than they did; Qwen's own only lose line breaks.
bool trims(std::string_view text) {
  std::string dense(text);
  std::erase_if(dense, [](char c) { return c == ' '; });
  return dense.find("|trim") != std::string::npos || dense.find("strip()") != std::string::npos;
}

}  // namespace

std::string_view template_of(ChatFormat format) { return format == ChatFormat::qwen3 ? qwen3_template : qwen2_template; }

std::optional<std::string> foreign_part(std::string_view text, ChatFormat format) {
  const auto words = words_of(text);
  const auto says = [&words](std::string_view what) {
    return std::any_of(words.begin(), words.end(), [what](const std::string& word) { return word.find(what) != std::string::npos; });
  };
  for (const std::string& word : words) {
    if (is_of_tools(word) || rest_of(word, format).empty()) continue;
    return "it says '" + shown(word) + "'";
  }
  if (!says("<|im_start|>") || !says("<|im_end|>")) return "its turns have no <|im_start|> and <|im_end|>";
  if (format == ChatFormat::qwen3 && (!says(empty_thought_in_jinja) || text.find("enable_thinking") == std::string_view::npos))
    return "it does not close an empty thought where enable_thinking is false";
  if (format == ChatFormat::qwen2 && !says(qwen2_system)) return "it does not begin with '" + std::string(qwen2_system) + "'";
  if (trims(text)) return "it trims what people say";
  return std::nullopt;
}

}  // namespace outlast::gpu
