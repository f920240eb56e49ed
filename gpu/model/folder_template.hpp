// The chat template of a model's folder, as `transformers` finds it: chat_template.jinja, else a member of tokenizer_config.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace outlast::gpu {

// None where the folder has none. Errors: io, too_large, malformed.
Result<std::optional<std::string>> read_folder_template(const std::string& folder);

// The text of a tokenizer_config.json with another template. Errors: malformed.
Result<std::string> with_template(std::string_view tokenizer_config, std::string_view chat_template);

}  // namespace outlast::gpu
