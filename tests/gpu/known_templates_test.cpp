#include <catch2/catch.hpp>

#include "gpu/tokenizer/known_templates.hpp"

namespace outlast::gpu::known_templates_test {
namespace {

// As Qwen's own write it, with tools and comments.
const std::string chatml =
    "{# of a chat #}{%- if tools %}{{- \"# Tools\\n\\nYou may call functions\" }}{%- endif %}\n"
    "{% for message in messages %}\n{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}";

std::string foreign(const std::string& text, ChatFormat format) { return foreign_part(text, format).value_or(""); }

}  // namespace

TEST_CASE("what Outlast writes is its own, and of one family", "[gpu]") {
  CHECK(foreign(std::string(template_of(ChatFormat::qwen3)), ChatFormat::qwen3) == "");
  CHECK(foreign(std::string(template_of(ChatFormat::qwen2)), ChatFormat::qwen2) == "");
  CHECK(foreign(std::string(template_of(ChatFormat::qwen3)), ChatFormat::qwen2) == "it says '</think>'");
  CHECK(foreign(std::string(template_of(ChatFormat::qwen2)), ChatFormat::qwen3).find("it says '<|im_start|>system\\nYou are Qwen") == 0);
}

TEST_CASE("another writing of a family's template is taken as it is", "[gpu]") {
  CHECK(foreign(chatml + "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}{%- endif %}", ChatFormat::qwen3) == "");
  CHECK(foreign(chatml + "{%- endif %}{{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}", ChatFormat::qwen2) == "");
}

TEST_CASE("a template that says other things, or less, is foreign", "[gpu]") {
  CHECK(foreign(chatml + "{%- endif %}", ChatFormat::qwen3) == "it does not close an empty thought where enable_thinking is false");
  CHECK(foreign(chatml + "{%- endif %}", ChatFormat::qwen2).find("it does not begin with 'You are Qwen") == 0);
  const std::string own(template_of(ChatFormat::qwen3));
  CHECK(foreign("{{- '### Question: ' }}" + own, ChatFormat::qwen3) == "it says '### Question: '");
  CHECK(foreign("### Question: " + own, ChatFormat::qwen3) == "it says '### Question: '");
  CHECK(foreign("{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}", ChatFormat::qwen3) == "it says '[INST] '");
  CHECK(foreign("{{ messages[0].content }}", ChatFormat::qwen3).find("no <|im_start|>") != std::string::npos);
  CHECK(foreign(own + "{{- message.content | trim }}", ChatFormat::qwen3) == "it trims what people say");
  CHECK(foreign("{{- '" + std::string(59, 'x') + "ä' }}", ChatFormat::qwen3) == "it says '" + std::string(59, 'x') + "…'");
  CHECK(foreign("", ChatFormat::qwen2).find("no <|im_start|>") != std::string::npos);
  for (const char* const torn : {"{{ 'x", "{{ 'x\\", "{# x", "{% if", "{", "{{"}) CHECK(foreign_part(torn, ChatFormat::qwen3));
}

}  // namespace outlast::gpu::known_templates_test
