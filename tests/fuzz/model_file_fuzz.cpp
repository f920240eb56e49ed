// The files of a model's folder: config.json, generation_config.json, the header of safetensors, its index, tokenizer.json and
// a line of samples and of what it says of a teacher, and a schema. What is accepted must survive being written and read again; what it promises must be there.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/check.hpp"
#include "gpu/decode/json_schema.hpp"
#include "gpu/files/model_config.hpp"
#include "gpu/files/safetensors.hpp"
#include "gpu/files/weight_files.hpp"
#include "gpu/tokenizer/tokenizer.hpp"
#include "gpu/train/sample.hpp"

using namespace outlast;

namespace {

constexpr std::uint64_t buffer_bytes_max = 1U << 16;

void config(std::string_view text) {
  const auto read = gpu::parse_model_config(text);
  if (!read) return;
  const auto again = gpu::parse_model_config(gpu::model_config_json(*read));
  check(again.has_value(), "a configuration that was written is read", again ? "" : again.error().message);
  check(*again == *read, "a configuration means the same after it was written");
}

void header(std::string_view text, std::uint64_t buffer_bytes) {
  const auto read = gpu::parse_safetensors_header(text, buffer_bytes);
  if (!read) return;
  std::uint64_t end = 0;
  for (const gpu::TensorInfo& tensor : read->tensors) {
    check(tensor.begin == end && tensor.end >= tensor.begin, "tensors lie one after the other");
    check(tensor.count() * gpu::size_of(tensor.dtype) == tensor.bytes(), "a tensor has as many bytes as its shape");
    end = tensor.end;
  }
  check(end == buffer_bytes, "tensors fill the buffer");
}

void tokenizer(std::string_view text) {
  auto read = gpu::parse_tokenizer(text);
  if (!read) return;
  auto made = std::make_shared<const gpu::Tokenizer>(std::move(*read));
  const auto encoder = gpu::TokenEncoder::make(made);
  if (!encoder) return;
  std::vector<gpu::TokenId> tokens;
  if (!(*encoder)->encode("the cat's <|im_end|> 12\n\n\xC3\xA9 \xFF", gpu::TokenEncoder::Added::tokens, tokens)) return;
  for (const gpu::TokenId token : tokens) check(token < made->size(), "a token has an id of the tokenizer");
}

}  // namespace

void teacher(std::string_view line, std::size_t tokens) {
  const auto read = gpu::parse_teacher_line(line, tokens);
  if (!read) return;
  for (const gpu::TopTokens& top : *read) {
    check(top.tokens.size() == top.log_p.size() && top.tokens.size() <= gpu::top_tokens_max, "a teacher's tokens have a log-probability each");
    for (const std::int32_t token : top.tokens) check(token >= 0 && static_cast<std::size_t>(token) < tokens, "a teacher's token has an id of the tokenizer");
    for (const float log_p : top.log_p) check(log_p <= 0, "a log-probability is not above 0");
  }
}

// The first byte chooses the file.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data + 3), size - 3);
  switch (data[0] % 8) {
    case 0: config(text); break;
    case 1: (void)gpu::parse_sampling_config(text); break;
    case 2: header(text, (data[1] | data[2] << 8) % buffer_bytes_max); break;
    case 3: (void)gpu::parse_weight_index(text); break;
    case 4: tokenizer(text); break;
    case 5: (void)gpu::parse_chat_line(text); break;
    case 6: (void)gpu::compile_json_schema(text); break;
    default: teacher(text, data[1]);
  }
  return 0;
}
