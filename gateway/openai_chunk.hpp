// What the chunks of a streamed OpenAI answer say, without building anything from it.
#pragma once

#include <optional>
#include <string_view>

#include "core/chat.hpp"
#include "gateway/answer_parser.hpp"
#include "gateway/json_reader.hpp"

namespace outlast::gateway {

chat::StopReason read_finish_reason(std::string_view reason);
std::string_view finish_reason_name(chat::StopReason reason);

// The reasoning text of a delta or message: `reasoning_content`, or OpenRouter's `reasoning`. Empty
// for none.
std::string_view reasoning_of(const JsonValue& delta);

// Reads a whole answer: usage, size of content, the error inside a 200. Refuses what has no choice.
Result<void> read_openai_whole(const JsonValue& root, std::string_view body, AnswerState& state);

// Follows the chunks of one stream: usage, content and ends go into the state. One per answer.
class OpenaiChunkWatch {
 public:
  // What a chunk is to somebody who passes it on.
  struct Chunk {
    bool content = false;     // text, reasoning, refusal, tool call or finish
    bool usage_only = false;  // the chunk that include_usage asks for
  };
  // `data` is an event's; `[DONE]` included.
  Result<Chunk> read(std::string_view event, std::string_view data);
  // The chunk's root after read(), absent for `[DONE]`.
  [[nodiscard]] const JsonValue& root() const { return root_; }
  // Whether every choice that was seen has its finish.
  [[nodiscard]] bool choices_finished() const {
    return choices_seen_ != 0 && choices_seen_ == choices_finished_;
  }
  [[nodiscard]] const AnswerState& state() const { return state_; }
  [[nodiscard]] AnswerState& state() { return state_; }

 private:
  bool read_choice(const JsonValue& choice);

  JsonDocument document_;
  JsonValue root_;
  AnswerState state_;
  bool terms_due_ = true;
  unsigned __int128 choices_seen_ = 0;  // a bit for each of at most 128 choices
  unsigned __int128 choices_finished_ = 0;
};

}  // namespace outlast::gateway
