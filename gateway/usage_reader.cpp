#include "gateway/usage_reader.hpp"

#include <algorithm>

namespace outlast::gateway {
namespace {

// Moves up to `count` from what is left of a total into a bucket, so that the buckets' sum is the
// total.
std::uint64_t take(std::uint64_t& left, std::uint64_t count) {
  const std::uint64_t taken = std::min(left, count);
  left -= taken;
  return taken;
}

std::uint64_t count_or_zero(const JsonValue& value) { return value.count().value_or(0); }

// The tier that batches are answered with.
constexpr std::string_view batch_tier = "batch";

void replace(std::uint64_t& count, const JsonValue& value) {
  if (const auto reported = value.count()) count = *reported;
}

}  // namespace

Usage read_openai_usage(const JsonValue& usage) {
  Usage result;
  const auto prompt = usage["prompt_tokens"].count();
  const auto completion = usage["completion_tokens"].count();
  if (!prompt && !completion) return result;
  result.source = UsageSource::reported;

  const JsonValue input = usage["prompt_tokens_details"];
  std::uint64_t left = prompt.value_or(0);
  // DeepSeek names its cache hits at the top.
  result.input_cache_read = take(left, input["cached_tokens"].count().value_or(
                                           count_or_zero(usage["prompt_cache_hit_tokens"])));
  result.input_cache_write_5m = take(left, count_or_zero(input["cache_write_tokens"]));
  result.input_audio = take(left, count_or_zero(input["audio_tokens"]));
  result.input_image = take(left, count_or_zero(input["image_tokens"]));
  result.input_uncached = left;

  const JsonValue output = usage["completion_tokens_details"];
  const std::uint64_t reasoning = count_or_zero(output["reasoning_tokens"]);
  left = completion.value_or(0);
  // Some compatible backends count reasoning beside completion_tokens; only their total tells.
  const auto total = usage["total_tokens"].count();
  if (reasoning > 0 && total && *total == prompt.value_or(0) + left + reasoning) left += reasoning;
  result.output_reasoning = take(left, reasoning);
  result.output_audio = take(left, count_or_zero(output["audio_tokens"]));
  result.output_text = left;
  return result;
}

std::string_view billing_text_of(const JsonValue& value) {
  const std::string_view text = value.string_or("");
  const bool clean = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
  });
  return clean && text.size() <= billing_text_bytes_max ? text : std::string_view{};
}

void read_openai_terms(const JsonValue& root, BillingTerms& terms) {
  if (const auto tier = billing_text_of(root["service_tier"]); !tier.empty()) {
    terms.service_tier = tier;
    terms.batch = tier == batch_tier;
  }
}

void read_anthropic_terms(const JsonValue& usage, BillingTerms& terms) {
  read_openai_terms(usage, terms);  // of the same name
  if (const auto geo = billing_text_of(usage["inference_geo"]); !geo.empty())
    terms.inference_geo = geo;
  replace(terms.units.queries, usage["server_tool_use"]["web_search_requests"]);
}

void write_openai_usage(JsonWriter& json, const Usage& usage) {
  json.begin_object();
  json.key("prompt_tokens").number(usage.input_total());
  json.key("completion_tokens").number(usage.output_total());
  json.key("total_tokens").number(usage.input_total() + usage.output_total());
  json.key("prompt_tokens_details").begin_object();
  json.key("cached_tokens").number(usage.input_cache_read);
  json.key("cache_write_tokens").number(usage.input_cache_write_5m + usage.input_cache_write_1h);
  json.key("audio_tokens").number(usage.input_audio);
  json.end_object();
  json.key("completion_tokens_details").begin_object();
  json.key("reasoning_tokens").number(usage.output_reasoning);
  json.key("audio_tokens").number(usage.output_audio);
  json.end_object().end_object();
}

void AnthropicUsage::merge(const JsonValue& usage, bool final) {
  if (!usage.is_object()) return;
  reported_ = true;
  final_ = final_ || final;
  replace(input_, usage["input_tokens"]);
  replace(cache_read_, usage["cache_read_input_tokens"]);
  const JsonValue lifetimes = usage["cache_creation"];
  replace(cache_write_1h_, lifetimes["ephemeral_1h_input_tokens"]);
  if (lifetimes.is_object())
    cache_write_ = cache_write_1h_ + count_or_zero(lifetimes["ephemeral_5m_input_tokens"]);
  replace(cache_write_, usage["cache_creation_input_tokens"]);
  replace(output_, usage["output_tokens"]);
  replace(thinking_, usage["output_tokens_details"]["thinking_tokens"]);
}

Usage AnthropicUsage::usage(std::uint64_t content_bytes) const {
  Usage result;
  if (!reported_) return result;
  result.source = final_ ? UsageSource::reported : UsageSource::estimated;
  result.input_uncached = input_;
  result.input_cache_read = cache_read_;
  std::uint64_t written = cache_write_;
  result.input_cache_write_1h = take(written, cache_write_1h_);
  result.input_cache_write_5m = written;
  // message_start's output count is a placeholder.
  const std::uint64_t estimate =
      (content_bytes + estimated_bytes_per_token - 1) / estimated_bytes_per_token;
  std::uint64_t output = final_ ? output_ : std::max(output_, estimate);
  result.output_reasoning = take(output, thinking_);
  result.output_text = output;
  return result;
}

}  // namespace outlast::gateway
