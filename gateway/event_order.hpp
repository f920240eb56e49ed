// EventOrder: the one judge of the order of an answer's events (core/chat.hpp). Every reader that
// makes events and every writer that takes them asks it first, so that an illegal order ends as an
// error and never reaches a caller. Pure; one per answer.
#pragma once

#include <cstdint>
#include <string>

#include "core/chat.hpp"
#include "core/result.hpp"

namespace outlast::gateway {

class EventOrder {
 public:
  // Refuses (DialectError::malformed_answer) an event that may not come now; the state is then as
  // before.
  Result<void> accept(const chat::Event& event);
  [[nodiscard]] bool started() const { return state_ != State::fresh; }
  [[nodiscard]] bool finished() const { return state_ == State::finished; }
  // Indexes of tool calls given so far: the next ToolCallStart has this index.
  [[nodiscard]] std::uint32_t tool_calls() const { return tool_calls_; }

 private:
  enum class State : std::uint8_t { fresh, open, in_tool_call, finished };
  Result<void> judge(const chat::Event& event) const;

  State state_ = State::fresh;
  std::uint32_t tool_calls_ = 0;
};

// Puts an answer's events together.
class ResponseCollector {
 public:
  Result<void> accept(const chat::Event& event);
  // Whole once a Finish has been accepted.
  [[nodiscard]] bool finished() const { return order_.finished(); }
  [[nodiscard]] const chat::Response& response() const { return response_; }

 private:
  EventOrder order_;
  chat::Response response_;
};

}  // namespace outlast::gateway
