// SimRequest: what the simulator needs to know of a chat request, read and validated as the real
// providers do, so that a gateway which sends something illegal is told so.
//
// Tokens: every run of characters without white space is one token of input; an image is
// `image_tokens`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"

namespace outlast::sim {

enum class Dialect : std::uint8_t { openai, anthropic };

inline constexpr std::uint64_t image_tokens = 85;

struct SimTool {
  std::string name;
  std::string parameters;  // its JSON schema, as JSON text
};

enum class SimToolChoice : std::uint8_t { automatic, none, required };

struct SimRequest {
  std::string model;
  bool stream = false;
  bool include_usage = false;
  std::uint64_t max_tokens = 0;  // 0: no bound
  unsigned choices = 1;
  std::vector<SimTool> tools;
  SimToolChoice tool_choice = SimToolChoice::automatic;
  std::string tool_choice_name;  // of the tool that must be called; empty for any
  std::string last_user_text;
  bool ends_with_tool_result = false;
  std::uint64_t input_tokens = 0;  // without those of the cache
  std::uint64_t cache_read_tokens = 0;
  std::uint64_t cache_write_5m_tokens = 0;
  std::uint64_t cache_write_1h_tokens = 0;
  std::uint64_t content_hash =
      0;  // of model, messages and tools: the answer's ids and text follow from it
};

// An error as the provider would answer it.
struct ApiError {
  unsigned status = 400;
  std::string type;
  std::string code;   // OpenAI only
  std::string param;  // OpenAI only
  std::string message;
};

using ChatRequestResult = tl::expected<SimRequest, ApiError>;
ChatRequestResult read_openai_request(std::string_view body,
                                      const std::vector<std::string>& models);
ChatRequestResult read_anthropic_request(std::string_view body,
                                         const std::vector<std::string>& models);

std::uint64_t count_tokens(std::string_view text);

}  // namespace outlast::sim
