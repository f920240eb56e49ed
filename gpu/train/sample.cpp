#include "gpu/train/sample.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <simdjson.h>

#include "gpu/files/whole_file.hpp"
#include "gpu/gpu_error.hpp"

namespace outlast::gpu {
namespace {

namespace dom = simdjson::dom;
using simdjson::SUCCESS;

constexpr std::size_t messages_max = 4'096;
constexpr double log_p_least = -1e4;            // what is less likely is as good as impossible
constexpr double probability_sum_max = 1.01;    // logarithms may come from half precision

Result<dom::element> parse_line(dom::parser& parser, std::string_view line) {
  if (line.size() > sample_line_bytes_max) return malformed("it has more than " + std::to_string(sample_line_bytes_max >> 20) + " MiB");
  dom::element root;
  const auto parsed = parser.parse(line.data(), line.size()).get(root);
  if (parsed != SUCCESS) return malformed(std::string("it is not JSON: ") + simdjson::error_message(parsed));
  return root;
}

// One entry of "teacher"; the message says what is wrong with it.
Result<TopTokens> parse_top_tokens(const dom::element& entry, std::size_t tokens) {
  TopTokens top;
  if (entry.is_null()) return top;
  dom::array ids;
  dom::array log_ps;
  if (entry["tokens"].get(ids) != SUCCESS || entry["logprobs"].get(log_ps) != SUCCESS) return malformed("lacks an array 'tokens' or 'logprobs', and is not null");
  if (ids.size() != log_ps.size() || ids.size() == 0 || ids.size() > top_tokens_max) {
    return malformed("has " + std::to_string(ids.size()) + " tokens and " + std::to_string(log_ps.size()) + " logprobs; it has as many of each, 1 to " +
                     std::to_string(top_tokens_max));
  }
  for (const dom::element one : ids) {
    std::uint64_t id = 0;
    if (one.get(id) != SUCCESS || id >= tokens) return malformed("has a token that is no id below " + std::to_string(tokens) + ", the tokenizer's size");
    top.tokens.push_back(static_cast<std::int32_t>(id));
  }
  auto sorted = top.tokens;
  std::sort(sorted.begin(), sorted.end());
  if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end()) return malformed("has token " + std::to_string(*twice) + " twice");
  double sum = 0;
  for (const dom::element one : log_ps) {
    double log_p = 0;
    if (one.get(log_p) != SUCCESS) return malformed("has a logprob that is no number");
    sum += std::exp(log_p);
    top.log_p.push_back(static_cast<float>(std::clamp(log_p, log_p_least, 0.0)));
  }
  if (!(sum <= probability_sum_max)) return malformed("has probabilities that add up to more than 1; logprobs are natural logarithms, of temperature 1");
  return top;
}

}  // namespace

std::size_t Sample::loss_rows() const {
  return static_cast<std::size_t>(std::count_if(weights.begin() + (weights.empty() ? 0 : 1), weights.end(), [](float weight) { return weight != 0; }));
}

double Sample::weight_sum() const { return weights.empty() ? 0 : std::accumulate(weights.begin() + 1, weights.end(), 0.0); }

std::size_t longest_of(std::span<const Sample> samples) {
  std::size_t most = 1;
  for (const Sample& sample : samples) most = std::max(most, sample.tokens.size());
  return most;
}

std::size_t top_k_of(std::span<const Sample> samples) {
  std::size_t most = 0;
  for (const Sample& sample : samples) {
    for (const TopTokens& top : sample.teacher) most = std::max(most, top.tokens.size());
  }
  return most;
}

Result<void> check_samples(std::span<const Sample> samples, std::size_t tokens, std::size_t longest) {
  const auto wrong = [](std::size_t number, std::string what) { return fail(GpuError::invalid, "sample " + std::to_string(number + 1) + " " + std::move(what)); };
  for (std::size_t number = 0; number < samples.size(); ++number) {
    const Sample& sample = samples[number];
    const auto known = [tokens](std::int32_t token) { return token >= 0 && static_cast<std::size_t>(token) < tokens; };
    if (!std::all_of(sample.tokens.begin(), sample.tokens.end(), known)) return wrong(number, "has a token that the model's " + std::to_string(tokens) + " do not have");
    if (sample.tokens.size() > longest) return wrong(number, "has " + std::to_string(sample.tokens.size()) + " tokens, and at most " + std::to_string(longest) + " fit");
    if (sample.weights.size() != sample.tokens.size() || (!sample.teacher.empty() && sample.teacher.size() != sample.tokens.size()))
      return wrong(number, "has not a weight, or not a teacher's word, for each token");
    const auto paired = [](const TopTokens& top) { return top.tokens.size() == top.log_p.size(); };
    if (!std::all_of(sample.teacher.begin(), sample.teacher.end(), paired)) return wrong(number, "has a teacher's token without its probability");
    if (sample.loss_rows() == 0) return wrong(number, "has nothing to learn");
  }
  return {};
}

Result<std::vector<ChatMessage>> parse_chat_line(std::string_view line) {
  dom::parser parser;
  const auto parsed = parse_line(parser, line);
  if (!parsed) return fail(parsed.error());
  const dom::element root = *parsed;
  dom::array messages;
  if (root["messages"].get(messages) != SUCCESS) return malformed("it has no array 'messages'");
  std::vector<ChatMessage> chat;
  for (const dom::element message : messages) {
    std::string_view role;
    std::string_view content;
    if (message["role"].get(role) != SUCCESS || message["content"].get(content) != SUCCESS)
      return malformed("message " + std::to_string(chat.size() + 1) + " lacks a 'role' or a 'content' that is a text");
    if (chat.size() == messages_max) return malformed("it has more than " + std::to_string(messages_max) + " messages");
    chat.push_back({std::string(role), std::string(content)});
  }
  return chat;
}

Result<std::vector<TopTokens>> parse_teacher_line(std::string_view line, std::size_t tokens) {
  dom::parser parser;
  const auto parsed = parse_line(parser, line);
  if (!parsed) return fail(parsed.error());
  std::vector<TopTokens> teacher;
  dom::element said;
  if ((*parsed)["teacher"].get(said) != SUCCESS || said.is_null()) return teacher;
  dom::array entries;
  if (said.get(entries) != SUCCESS || entries.size() == 0) return malformed("its 'teacher' is no array, or an empty one");
  for (const dom::element entry : entries) {
    auto top = parse_top_tokens(entry, tokens);
    if (!top) return malformed("entry " + std::to_string(teacher.size() + 1) + " of its 'teacher' " + top.error().message);
    teacher.push_back(std::move(*top));
  }
  return teacher;
}

Result<Sample> make_sample(TokenEncoder& encoder, const std::vector<ChatMessage>& messages, const SampleOptions& options, std::vector<TopTokens> teacher) {
  if (messages.empty() || messages.back().role != "assistant") return fail(GpuError::invalid, "a sample ends with what the assistant should say");
  ChatOptions chat;
  chat.format = options.format;
  const auto pieces = render_chat(messages, chat);
  if (!pieces) return fail(pieces.error());
  auto encoded = encode_chat(encoder, *pieces);
  if (!encoded) return fail(std::move(encoded.error()));
  // What follows the last answer (the template's line break) teaches nothing.
  std::size_t size = encoded->tokens.size();
  while (size > 0 && encoded->learn[size - 1] == 0) --size;
  const std::size_t from = size > options.positions ? size - options.positions : 0;
  const auto first = static_cast<std::size_t>(std::find(encoded->learn.begin(), encoded->learn.end(), 1) - encoded->learn.begin());
  if (first <= from && size > 0) {
    return fail(GpuError::invalid, "what it has to learn begins at token " + std::to_string(first) + " of " + std::to_string(size) + ", and the last " +
                                       std::to_string(options.positions) + " are kept");
  }
  Sample sample;
  sample.tokens.assign(encoded->tokens.begin() + static_cast<std::ptrdiff_t>(from), encoded->tokens.begin() + static_cast<std::ptrdiff_t>(size));
  for (std::size_t i = from; i < size; ++i) sample.weights.push_back(encoded->learn[i] != 0 ? 1.0F : 0.0F);
  sample.cut = from > 0;
  const std::size_t loss_rows = sample.loss_rows();
  if (loss_rows == 0) return fail(GpuError::invalid, "a sample has nothing to learn");
  if (teacher.empty()) return sample;
  if (teacher.size() != loss_rows) {
    return fail(GpuError::invalid, "its 'teacher' has " + std::to_string(teacher.size()) + " entries, and " + std::to_string(loss_rows) +
                                       " tokens bear loss: those of what the assistant says, and the end of each turn");
  }
  sample.teacher.resize(sample.tokens.size());
  for (std::size_t i = 0, next = 0; i < sample.tokens.size(); ++i) {
    if (sample.weights[i] != 0) sample.teacher[i] = std::move(teacher[next++]);
  }
  return sample;
}

Result<SampleFile> read_samples(const std::string& path, TokenEncoder& encoder, const SampleOptions& options) {
  LineReader lines(path, sample_line_bytes_max);
  SampleFile read;
  std::string line;
  for (std::size_t number = 1;; ++number) {
    const Result<bool> more = lines.next(line);
    if (!more) return fail(Error{more.error().module, more.error().code, path + ", line " + std::to_string(number) + ": " + more.error().message});
    if (!*more) break;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const auto wrong = [&path, number](const Error& error) {
      return fail(Error{error.module, error.code, path + ", line " + std::to_string(number) + ": " + error.message});
    };
    auto chat = parse_chat_line(line);
    if (!chat) return wrong(chat.error());
    Result<std::vector<TopTokens>> teacher;
    if (options.teacher_tokens > 0) teacher = parse_teacher_line(line, options.teacher_tokens);
    if (!teacher) return wrong(teacher.error());
    auto sample = make_sample(encoder, *chat, options, std::move(*teacher));
    if (!sample) return wrong(sample.error());
    if (sample->cut) ++read.cut;
    read.chats.push_back(std::move(*chat));
    read.samples.push_back(std::move(*sample));
  }
  if (read.samples.empty()) return fail(GpuError::invalid, path + " has no samples");
  return read;
}

}  // namespace outlast::gpu
