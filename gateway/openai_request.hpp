// Chat requests in OpenAI's words: read into the typed form, written from it, and passed on with
// few values replaced.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/chat.hpp"
#include "core/result.hpp"
#include "gateway/dialect.hpp"

namespace outlast::gateway {

// `body` is a valid JSON object (ChatScanner). Fields without a typed place go into extra_json.
// Refuses (invalid_request, unsupported) with the path of the field: "messages[2].content[0].type".
Result<chat::Request> read_openai_request(std::string_view body);

// Streamed, with usage.
Result<std::string> write_openai_request(const chat::Request& request, std::string_view model,
                                         std::uint64_t output_tokens_max);

// The caller's bytes with another model, usage asked for where it streams, and `max_tokens` where
// the caller gave no bound. `head` is the scanner's of the same body.
UpstreamBody rewrite_openai_request(std::string_view body, const ChatHead& head,
                                    std::string_view model, std::uint64_t output_tokens_max);

}  // namespace outlast::gateway
