// Typed answers in OpenAI's words, for callers of that dialect.
#pragma once

#include <string>

#include "core/chat.hpp"
#include "core/result.hpp"
#include "gateway/dialect.hpp"
#include "gateway/event_order.hpp"

namespace outlast::gateway {

// Events as chunks of a stream, `[DONE]` included. Refuses an illegal order. One per answer.
class OpenaiStreamWriter {
 public:
  explicit OpenaiStreamWriter(const AnswerContext& context);
  // Appends server-sent events to `out`.
  Result<void> write(const chat::Event& event, std::string& out);

 private:
  void begin_chunk(std::string& out) const;
  void end_chunk(std::string& out) const;
  void write_delta(const chat::Event& event, std::string& out) const;
  void write_finish(const chat::Finish& finish, std::string& out) const;

  EventOrder order_;
  bool include_usage_;
  std::string caller_model_;
  std::string head_;  // what every chunk begins with, up to "choices"
  std::string request_id_;
  std::int64_t created_s_;
};

std::string write_openai_response(const chat::Response& response, const AnswerContext& context);

}  // namespace outlast::gateway
