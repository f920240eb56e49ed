// Chat templates: a conversation as the text that a model was trained on, in pieces, so that training and serving cut it into
// tokens at the same places, and only what the model itself has to say bears loss.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gpu/tokenizer/tokenizer.hpp"

namespace outlast::gpu {

enum class ChatFormat : std::uint8_t { qwen3, qwen2 };

// What Qwen2.5 is told where nobody says who it is.
inline constexpr std::string_view qwen2_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.";

struct ChatMessage {
  std::string role;  // system, user, assistant
  std::string content;
};

struct ChatPiece {
  std::string text;
  bool markup = false;  // of the template: names of tokens in it are tokens; a person's text never is
  bool learn = false;   // what the model has to say
  bool operator==(const ChatPiece&) const = default;
};

struct ChatOptions {
  ChatFormat format = ChatFormat::qwen3;
  bool generation_prompt = false;  // ends with the beginning of the assistant's turn
  bool thinking = false;           // of that turn; without it, the prompt closes an empty thought (Qwen3)
};

// As the model's own template has it. Errors: invalid (a role that it does not know).
Result<std::vector<ChatPiece>> render_chat(const std::vector<ChatMessage>& messages, const ChatOptions& options);

// Whether the tokenizer has the tokens that the format is made of; else a turn could not end. Errors: unsupported.
Result<void> check_chat_tokens(const Tokenizer& tokenizer, ChatFormat format);

struct ChatTokens {
  std::vector<TokenId> tokens;
  std::vector<std::uint8_t> learn;  // 1 where the token bears loss
};
// Errors: as of TokenEncoder::encode().
Result<ChatTokens> encode_chat(TokenEncoder& encoder, const std::vector<ChatPiece>& pieces);

}  // namespace outlast::gpu
