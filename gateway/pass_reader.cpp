#include "gateway/pass_reader.hpp"

#include <vector>

#include "gateway/dialect_failures.hpp"
#include "gateway/openai_chunk.hpp"
#include "http/sse.hpp"

namespace outlast::gateway {
namespace {

class PassWhole final : public AnswerReader {
 public:
  Result<AnswerStep> feed(std::string_view bytes) override {
    if (body_.size() + bytes.size() > answer_bytes_max)
      return malformed("the answer is larger than 64 MiB");
    body_ += bytes;
    return AnswerStep{};
  }
  Result<AnswerStep> finish() override {
    JsonDocument document;
    const auto root = document.parse(body_);
    if (!root) return malformed("the answer is not JSON: " + root.error().message);
    if (auto read = read_openai_whole(*root, body_, state_); !read)
      return fail(std::move(read.error()));
    AnswerStep step;
    step.failure = state_.failure;
    if (step.failure) return step;
    step.bytes = body_;
    step.content = true;
    step.done = true;
    return step;
  }
  [[nodiscard]] const Usage& usage() const override { return state_.usage; }
  [[nodiscard]] const BillingTerms& terms() const override { return state_.terms; }
  [[nodiscard]] std::uint64_t content_bytes() const override { return state_.content_bytes; }
  [[nodiscard]] bool inside_tool_call() const override { return false; }

 private:
  std::string body_;
  AnswerState state_;
};

class PassStream final : public AnswerReader {
 public:
  explicit PassStream(AnswerContext context) : context_(std::move(context)) {}
  Result<AnswerStep> feed(std::string_view bytes) override;
  Result<AnswerStep> finish() override;
  [[nodiscard]] const Usage& usage() const override {
    return whole_ ? whole_->usage() : watch_.state().usage;
  }
  [[nodiscard]] const BillingTerms& terms() const override {
    return whole_ ? whole_->terms() : watch_.state().terms;
  }
  [[nodiscard]] std::uint64_t content_bytes() const override {
    return whole_ ? whole_->content_bytes() : watch_.state().content_bytes;
  }
  [[nodiscard]] bool inside_tool_call() const override {
    return whole_ ? whole_->inside_tool_call() : watch_.state().inside_tool_call;
  }

 private:
  // Reads the events that are complete; keeps in kept_ those that pass, and says whether that is
  // all of them.
  Result<bool> read_events();
  // What passes of `bytes`: a view of them where they are whole events and nothing is held.
  std::string_view passing(std::string_view bytes, bool all);
  void append_kept();
  Result<AnswerStep> step(std::string_view bytes);

  AnswerContext context_;
  http::SseReader reader_;
  OpenaiChunkWatch watch_;
  std::unique_ptr<AnswerReader> whole_;  // the upstream answered with one JSON object
  bool sniffed_ = false;
  bool content_ = false;
  bool given_ = false;      // out_ was given with the last step
  std::string unfinished_;  // bytes of an event that is not complete
  std::string out_;
  std::vector<http::SseEvent> kept_;
};

Result<AnswerStep> PassStream::feed(std::string_view bytes) {
  if (!sniffed_) {
    if (const std::size_t first = find_meaningful_byte(bytes); first != std::string_view::npos) {
      if (bytes[first] == '{') whole_ = make_translating_reader(Dialect::openai, context_);
      sniffed_ = true;
    }
  }
  if (whole_) return whole_->feed(bytes);
  if (given_) out_.clear();
  given_ = false;
  if (auto fed = reader_.feed(bytes); !fed) return malformed(fed.error().message);
  const auto all = read_events();
  if (!all) return fail(Error(all.error()));
  const std::string_view out = passing(bytes, *all);
  if (!content_ && out.size() > preamble_bytes_max)
    return malformed("the stream has 1 MiB before its first content");
  return step(out);
}

Result<bool> PassStream::read_events() {
  kept_.clear();
  bool all = true;
  for (http::SseEvent event; reader_.next(event);) {
    AnswerState& state = watch_.state();
    if (state.done || state.failure) return false;  // what follows the end is nobody's
    const auto chunk = watch_.read(event.event, event.data);
    if (!chunk) return fail(Error(chunk.error()));
    if (state.failure) return false;
    content_ = content_ || chunk->content || state.done;
    if (chunk->usage_only && !context_.include_usage) all = false;
    else kept_.push_back(event);
  }
  return all;
}

std::string_view PassStream::passing(std::string_view bytes, bool all) {
  const std::size_t unfinished = reader_.pending_bytes();
  const std::size_t total = unfinished_.size() + bytes.size();
  const std::size_t complete = total - std::min(total, unfinished);
  if (!all) {
    append_kept();
  } else if (unfinished_.empty() && content_ && out_.empty()) {
    unfinished_ = bytes.substr(complete);
    return bytes.substr(0, complete);
  } else {
    const std::size_t from_before = std::min(complete, unfinished_.size());
    out_.append(unfinished_, 0, from_before);
    out_.append(bytes.substr(0, complete - from_before));
  }
  // The unfinished event is a suffix of what has come.
  if (complete >= unfinished_.size()) unfinished_ = bytes.substr(complete - unfinished_.size());
  else unfinished_.erase(0, complete).append(bytes);
  return out_;
}

// Some events do not pass, so those that do are written anew.
void PassStream::append_kept() {
  for (const http::SseEvent& event : kept_) {
    if (!event.event.empty()) out_.append("event: ").append(event.event) += '\n';
    for (std::string_view rest = event.data; true;) {
      const std::size_t line_end = rest.find('\n');
      out_.append("data: ").append(rest.substr(0, line_end)) += '\n';
      if (line_end == std::string_view::npos) break;
      rest.remove_prefix(line_end + 1);
    }
    out_ += '\n';
  }
}

Result<AnswerStep> PassStream::step(std::string_view bytes) {
  AnswerStep step;
  step.failure = watch_.state().failure;
  step.content = content_;
  step.done = watch_.state().done && !step.failure;
  if (content_) {
    step.bytes = bytes;
    given_ = true;
  }
  return step;
}

Result<AnswerStep> PassStream::finish() {
  if (whole_) return whole_->finish();
  if (given_) out_.clear();
  given_ = false;
  if (!watch_.state().done) {
    // Some backends leave the end marker out; what counts is that every choice has its finish.
    if (watch_.state().failure || !watch_.choices_finished() || reader_.pending_bytes() > 0) {
      return malformed("the stream ended before its end marker");
    }
    watch_.state().done = true;
    out_ += "data: [DONE]\n\n";
  }
  return step(out_);
}

}  // namespace

std::unique_ptr<AnswerReader> make_pass_whole() { return std::make_unique<PassWhole>(); }

std::unique_ptr<AnswerReader> make_pass_stream(AnswerContext context) {
  return std::make_unique<PassStream>(std::move(context));
}

}  // namespace outlast::gateway
