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
// That a model of so many tokens can learn from each, and that each has at most `longest` tokens. Errors: invalid, with the
// number of the sample.
Result<void> check_samples(std::span<const Sample> samples, std::size_t tokens, std::size_t longest);

// One line of a training file: {"messages": [{"role": …, "content": …}, …]}; what the assistant says bears loss, as far as the
// template writes it as it was said (chat_template.hpp). Errors: malformed, invalid.
Result<std::vector<ChatMessage>> parse_chat_line(std::string_view line);
struct SampleOptions {
  ChatFormat format = ChatFormat::qwen3;
  std::size_t positions = 2'048;  // a longer sample loses its beginning, but never of what bears loss: then it is refused
};
// Errors: invalid, and as of TokenEncoder::encode().
Result<Sample> make_sample(TokenEncoder& encoder, const std::vector<ChatMessage>& messages, const SampleOptions& options);

struct SampleFile {
  std::vector<std::vector<ChatMessage>> chats;
  std::vector<Sample> samples;
  std::size_t cut = 0;  // samples whose beginning is missing
};
// A file of such lines. Errors: io, and what a line's are, with its number.
Result<SampleFile> read_samples(const std::string& path, TokenEncoder& encoder, const SampleOptions& options);

}  // namespace outlast::gpu
