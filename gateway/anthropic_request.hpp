// Typed chat requests in Anthropic's words (POST /v1/messages). The table of fields is
// docs/dialects.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/chat.hpp"
#include "core/result.hpp"

namespace outlast::gateway {

// `stream` is asked for as given. Refuses (invalid_request, unsupported) with the field's name.
Result<std::string> write_anthropic_request(const chat::Request& request, bool stream,
                                            std::string_view model,
                                            std::uint64_t output_tokens_max);

}  // namespace outlast::gateway
