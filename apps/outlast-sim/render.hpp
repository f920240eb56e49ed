// Rendering: an answer as the bytes of a dialect, whole or as the events of a stream, made before
// the first is sent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/outlast-sim/answer.hpp"
#include "apps/outlast-sim/chat_request.hpp"

namespace outlast::sim {

// One event (or a few that belong together) of a stream.
struct StreamPiece {
  std::string bytes;
  std::uint64_t tokens_before = 0;  // tokens in the pieces before this one
  bool content = false;             // carries tokens
};

// What is sent for one request. Immutable.
struct Rendered {
  std::string whole;                // without `stream`
  std::vector<StreamPiece> pieces;  // with it
  std::uint64_t tokens = 0;         // of the answer, for its pace
};

enum class UsageReport : std::uint8_t { exact, missing };

struct RenderOptions {
  std::uint64_t chunk_tokens = 1;
  UsageReport usage = UsageReport::exact;
};

Rendered render_openai(const SimRequest& request, const SimAnswer& answer,
                       const RenderOptions& options);
Rendered render_anthropic(const SimRequest& request, const SimAnswer& answer,
                          const RenderOptions& options);

std::string openai_error(const ApiError& error);
std::string anthropic_error(const ApiError& error, std::string_view request_id);
// The error as the only event of a stream that began with status 200.
std::string openai_error_event(const ApiError& error);
std::string anthropic_error_event(const ApiError& error, std::string_view request_id);

std::string openai_models(const std::vector<std::string>& models);
std::string anthropic_models(const std::vector<std::string>& models);

}  // namespace outlast::sim
