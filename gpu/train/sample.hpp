// What a student learns from: sequences of tokens, and what of them bears loss.
#pragma once

#include <cstdint>
#include <functional>
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

  [[nodiscard]] std::size_t loss_rows() const;
  [[nodiscard]] double weight_sum() const;
};

// One line of a training file: {"messages": [{"role": …, "content": …}, …]}, whose assistant's turns bear loss, all or (with
// `last_turn_only`) the last. Errors: malformed, invalid.
Result<std::vector<ChatMessage>> parse_chat_line(std::string_view line);
struct SampleOptions {
  ChatFormat format = ChatFormat::qwen3;
  std::size_t positions = 2'048;  // a longer sample loses its beginning, never its answer
};
Result<Sample> make_sample(TokenEncoder& encoder, const std::vector<ChatMessage>& messages, const SampleOptions& options);

struct SampleFile {
  std::vector<std::vector<ChatMessage>> chats;
  std::vector<Sample> samples;
  std::size_t cut = 0;  // samples that were too long
};
// A file of such lines. Errors: io, and what a line's are, with its number.
Result<SampleFile> read_samples(const std::string& path, TokenEncoder& encoder, const SampleOptions& options);

}  // namespace outlast::gpu
