// The chat templates (Jinja) that render what render_chat() does: the one that Outlast writes for each format, and how those of other
// folders are told from it. Outlast runs no Jinja: it looks at what a template can say.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "gpu/tokenizer/chat_template.hpp"

namespace outlast::gpu {

// Without tools; with `add_generation_prompt` and, for Qwen3, `enable_thinking` as render_chat() has them. Thinking is off where nobody
// asks for it: a narrow student never thought.
std::string_view template_of(ChatFormat format);

// What of `text` is not the format's, for people: "it says '…'". None where all that it says of conversations without tools is, as of
// Qwen's own templates and template_of().
std::optional<std::string> foreign_part(std::string_view text, ChatFormat format);

}  // namespace outlast::gpu
