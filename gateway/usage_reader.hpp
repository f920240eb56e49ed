// Providers' usage objects as disjoint buckets (core/usage.hpp): nothing is counted twice or not at
// all.
#pragma once

#include <cstdint>
#include <optional>

#include "core/json_writer.hpp"
#include "core/metering.hpp"
#include "core/usage.hpp"
#include "gateway/json_reader.hpp"

namespace outlast::gateway {

// A rough count of tokens where none was reported: UTF-8 bytes of text per token, English prose on
// current tokenizers.
inline constexpr std::uint64_t estimated_bytes_per_token = 4;

// OpenAI's: the details are parts of prompt_tokens and completion_tokens. Absent where `usage`
// holds no counts.
Usage read_openai_usage(const JsonValue& usage);
// The inverse: cached and written input counts as prompt, reasoning as completion.
void write_openai_usage(JsonWriter& json, const Usage& usage);

// What a provider says of how it bills: a name of at most billing_text_bytes_max lower-case letters,
// digits, '-', '_' and '.'. Empty for all else: it becomes a ledger entry's and chooses a price.
std::string_view billing_text_of(const JsonValue& value);
// A later answer's terms replace earlier ones; what is not said leaves them alone. OpenAI's stand at
// the top of an answer or chunk, Anthropic's in its usage.
void read_openai_terms(const JsonValue& root, BillingTerms& terms);
void read_anthropic_terms(const JsonValue& usage, BillingTerms& terms);

// Anthropic's: counts come in message_start and again, cumulative and partly, in message_delta.
class AnthropicUsage {
 public:
  // A later count replaces an earlier one. `final` when it is message_delta's or a whole answer's.
  void merge(const JsonValue& usage, bool final);
  // `content_bytes` estimates the output of an answer that ended early.
  [[nodiscard]] Usage usage(std::uint64_t content_bytes) const;

 private:
  std::uint64_t input_ = 0;
  std::uint64_t cache_read_ = 0;
  std::uint64_t cache_write_ = 0;  // of both lifetimes
  std::uint64_t cache_write_1h_ = 0;
  std::uint64_t output_ = 0;  // thinking included
  std::uint64_t thinking_ = 0;
  bool reported_ = false;
  bool final_ = false;
};

}  // namespace outlast::gateway
