// What a student learns from: sequences of tokens, and what of them bears loss.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.hpp"
#include "gpu/tokenizer/chat_template.hpp"

namespace outlast::gpu {

inline constexpr std::size_t sample_line_bytes_max = 16U << 20;
inline constexpr std::size_t top_tokens_max = 1'024;  // of a teacher, at one place

// A teacher's likeliest tokens at one place.
struct TopTokens {
  std::vector<std::int32_t> tokens;
  std::vector<float> log_p;
};

struct Sample {
  std::vector<std::int32_t> tokens;
  std::vector<float> weights;   // of the loss of predicting tokens[i]; weights[0] is never used
  std::vector<TopTokens> teacher;  // by token, like weights; empty: the sample has none
  bool cut = false;                // its beginning is missing

  [[nodiscard]] std::size_t loss_rows() const;
  [[nodiscard]] double weight_sum() const;
};

// The tokens of the longest; at least 1.
std::size_t longest_of(std::span<const Sample> samples);
// Tokens of the teacher that names the most at one place; 0: none says anything.
std::size_t top_k_of(std::span<const Sample> samples);
// That a model of so many tokens can learn from each, and that each has at most `longest` tokens. Errors: invalid, with the
// number of the sample.
Result<void> check_samples(std::span<const Sample> samples, std::size_t tokens, std::size_t longest);

// One line of a training file: {"messages": [{"role": …, "content": …}, …]}; what the assistant says bears loss, as far as the
// template writes it as it was said (chat_template.hpp). Errors: malformed, invalid.
Result<std::vector<ChatMessage>> parse_chat_line(std::string_view line);
// What such a line says of a teacher, for each token that bears loss, in order: {"teacher": [{"tokens": [id, …], "logprobs":
// [number, …]}, …]}, natural logarithms at temperature 1; null: it said nothing of this token. Empty where the line has none.
// `tokens`: the tokenizer's size. Errors: malformed.
Result<std::vector<TopTokens>> parse_teacher_line(std::string_view line, std::size_t tokens);
struct SampleOptions {
  ChatFormat format = ChatFormat::qwen3;
  std::size_t positions = 2'048;  // a longer sample loses its beginning, but never of what bears loss: then it is refused
  std::size_t teacher_tokens = 0;  // the tokenizer's size, where lines are read for what a teacher said; 0: it is not looked at
};
// `teacher`: as of parse_teacher_line(). Errors: invalid, and as of TokenEncoder::encode().
Result<Sample> make_sample(TokenEncoder& encoder, const std::vector<ChatMessage>& messages, const SampleOptions& options, std::vector<TopTokens> teacher = {});

struct SampleFile {
  std::vector<std::vector<ChatMessage>> chats;
  std::vector<Sample> samples;
  std::size_t cut = 0;  // samples whose beginning is missing
};
// A file of such lines. Errors: io, and what a line's are, with its number.
Result<SampleFile> read_samples(const std::string& path, TokenEncoder& encoder, const SampleOptions& options);

}  // namespace outlast::gpu
