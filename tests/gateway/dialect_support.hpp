// What the tests of the dialects share: golden files, padded bodies, and answers read in pieces.
#pragma once

#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gateway/dialect.hpp"

namespace outlast::gateway::testing {

inline std::string golden(const std::string& name) {
  std::ifstream file(std::string(OUTLAST_SOURCE_DIR) + "/tests/gateway/golden/" + name,
                     std::ios::binary);
  if (!file) throw std::runtime_error("no golden file " + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// A body with the readable memory behind it that the scanner asks for.
class PaddedBody {
 public:
  explicit PaddedBody(const std::string& text) : size_(text.size()), bytes_(text) {
    bytes_.append(http::body_padding_bytes, '\xee');
  }
  [[nodiscard]] std::string_view view() const { return std::string_view(bytes_).substr(0, size_); }

 private:
  std::size_t size_;
  std::string bytes_;
};

// Everything that a reader gave.
struct Answer {
  std::string bytes;
  std::vector<chat::Event> events;
  bool content = false;
  bool done = false;
  std::optional<UpstreamFailure> failure;
  std::optional<Error> error;
  Usage usage;
  BillingTerms terms;
  std::uint64_t content_bytes = 0;
  bool given_before_content = false;
};

inline bool take(Answer& answer, const Result<AnswerStep>& step) {
  if (!step) {
    answer.error = step.error();
    return false;
  }
  if (!step->content && (!step->bytes.empty() || !step->events.empty()))
    answer.given_before_content = true;
  answer.bytes += step->bytes;
  answer.events.insert(answer.events.end(), step->events.begin(), step->events.end());
  answer.content = step->content;
  answer.done = step->done;
  answer.failure = step->failure;
  return !answer.done && !answer.failure;
}

inline std::string text_of(const UpstreamBody& body) {
  std::string text;
  const http::BodyPieces pieces = body.pieces();
  for (const std::string_view piece : pieces.pieces()) text += piece;
  return text;
}

inline AnswerContext context_of(CallerForm form, bool include_usage = true) {
  return {form, include_usage, "req-1", 1'750'000'000, "smart"};
}

// Feeds `pieces` and the clean end, each from memory that is gone after its call.
inline Answer read_answer(Dialect upstream, const AnswerContext& context,
                          const std::vector<std::string>& pieces, bool clean_end = true) {
  auto reader = make_answer_reader(upstream, context);
  Answer answer;
  bool more = true;
  for (const auto& piece : pieces) {
    const auto copy = std::make_unique<std::string>(piece);
    more = take(answer, reader->feed(*copy));
    if (!more) break;
  }
  if (more && clean_end) take(answer, reader->finish());
  answer.usage = reader->usage();
  answer.terms = reader->terms();
  answer.content_bytes = reader->content_bytes();
  return answer;
}

}  // namespace outlast::gateway::testing
