#include "gpu/tokenizer/chat_template.hpp"

#include <algorithm>
#include <utility>

#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

constexpr std::string_view thought_end = "</think>";
constexpr std::string_view no_thought = "<think>\n\n</think>\n\n";

std::string_view trim_newlines(std::string_view text) {
  while (text.starts_with('\n')) text.remove_prefix(1);
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

class Renderer {
 public:
  explicit Renderer(const ChatOptions& options) : options_(options) {}

  void turn(std::string_view role, std::string_view content) {
    markup("<|im_start|>" + std::string(role) + "\n");
    text(std::string(content), false);
    markup("<|im_end|>\n");
  }

  // What the model says ends with the token that ends its turn; the line break after it is the template's.
  void answer(std::string_view content, bool shows_thought) {
    markup("<|im_start|>assistant\n");
    std::string_view thought;
    if (options_.format == ChatFormat::qwen3) {
      if (const std::size_t end = content.find(thought_end); end != std::string_view::npos) {
        thought = trim_newlines(content.substr(0, end));
        if (const std::size_t begin = thought.rfind("<think>"); begin != std::string_view::npos)
          thought = trim_newlines(thought.substr(begin + std::string_view("<think>").size()));
        content = content.substr(content.rfind(thought_end) + thought_end.size());
        while (content.starts_with('\n')) content.remove_prefix(1);
      }
      if (shows_thought && thought.empty()) {
        markup(std::string(no_thought));  // the prompt without thinking says it
      } else if (shows_thought) {
        markup("<think>\n", true);
        text(std::string(thought), true);
        markup("\n</think>\n\n", true);
      }
    }
    // Qwen3 says earlier answers without the thought that it is prompted with: these were not said so, and teach nothing.
    const bool learn = options_.format == ChatFormat::qwen2 || shows_thought;
    text(std::string(content), learn);
    markup("<|im_end|>", learn);
    markup("\n");
  }

  void prompt() {
    markup("<|im_start|>assistant\n");
    if (options_.format == ChatFormat::qwen3 && !options_.thinking) markup(std::string(no_thought));
  }

  std::vector<ChatPiece> pieces;

 private:
  void markup(std::string what, bool learn = false) {
    if (!pieces.empty() && pieces.back().markup && pieces.back().learn == learn) pieces.back().text += what;
    else pieces.push_back({std::move(what), true, learn});
  }
  void text(std::string what, bool learn) {
    if (!what.empty()) pieces.push_back({std::move(what), false, learn});
  }

  const ChatOptions options_;
};

}  // namespace

Result<std::vector<ChatPiece>> render_chat(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  Renderer out(options);
  std::size_t last_question = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "user") last_question = i;
  }
  const bool has_system = !messages.empty() && messages.front().role == "system";
  if (options.format == ChatFormat::qwen2 && !has_system) out.turn("system", qwen2_system);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    if (message.role == "system" || message.role == "user") {
      out.turn(message.role, message.content);
    } else if (message.role == "assistant") {
      out.answer(message.content, i > last_question);
    } else {
      return fail(GpuError::invalid, "the chat template knows no role '" + message.role + "'; it knows system, user and assistant");
    }
  }
  if (options.generation_prompt) out.prompt();
  return std::move(out.pieces);
}

Result<void> check_chat_tokens(const Tokenizer& tokenizer, ChatFormat format) {
  std::vector<std::string_view> wanted{"<|im_start|>", "<|im_end|>"};
  if (format == ChatFormat::qwen3) wanted.insert(wanted.end(), {"<think>", "</think>"});
  for (const std::string_view text : wanted) {
    if (!tokenizer.added(text))
      return fail(GpuError::unsupported, "the tokenizer has no token " + std::string(text) + ", which the chat template is made of");
  }
  return {};
}

Result<ChatTokens> encode_chat(TokenEncoder& encoder, const std::vector<ChatPiece>& pieces) {
  ChatTokens encoded;
  for (const ChatPiece& piece : pieces) {
    const auto added = piece.markup ? TokenEncoder::Added::tokens : TokenEncoder::Added::text;
    if (Result<void> done = encoder.encode(piece.text, added, encoded.tokens); !done) return fail(std::move(done.error()));
    encoded.learn.resize(encoded.tokens.size(), piece.learn ? 1 : 0);
  }
  return encoded;
}

}  // namespace outlast::gpu
