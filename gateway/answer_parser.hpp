// AnswerParser: a provider's answer as typed events, whatever its dialect. answer_reader.cpp feeds
// it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "core/chat.hpp"
#include "core/result.hpp"
#include "core/usage.hpp"
#include "gateway/dialect.hpp"
#include "http/sse.hpp"

namespace outlast::gateway {

// What is known of an answer so far.
struct AnswerState {
  Usage usage;
  BillingTerms terms;
  std::uint64_t content_bytes = 0;
  bool inside_tool_call = false;
  bool done = false;
  std::optional<UpstreamFailure> failure;
};

// One per answer. Errors are DialectError::malformed_answer. An error that the provider reports
// inside its 200 is no error of the parser: it stands in the state, and nothing more is to be fed.
class AnswerParser {
 public:
  virtual ~AnswerParser() = default;
  // One event of a streamed answer; appends what it says to `out`.
  virtual Result<void> event(const http::SseEvent& event, std::vector<chat::Event>& out) = 0;
  // A whole answer, instead of events.
  virtual Result<void> whole(std::string_view body, std::vector<chat::Event>& out) = 0;
  // The stream's clean end, for a dialect whose end marker some backends leave out.
  virtual void end(std::vector<chat::Event>& out) = 0;
  [[nodiscard]] virtual const AnswerState& state() const = 0;
};

std::unique_ptr<AnswerParser> make_openai_parser();
std::unique_ptr<AnswerParser> make_anthropic_parser();

// Whether an event says more than that the answer has begun.
inline bool carries_content(const chat::Event& event) {
  return !std::holds_alternative<chat::Start>(event);
}

}  // namespace outlast::gateway
