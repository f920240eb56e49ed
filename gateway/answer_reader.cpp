// AnswerReaders that go through typed events, and the choice of a reader for a pair of dialects.
#include <utility>
#include <variant>
#include <vector>

#include "gateway/answer_parser.hpp"
#include "gateway/dialect_failures.hpp"
#include "gateway/event_order.hpp"
#include "gateway/openai_writer.hpp"
#include "gateway/pass_reader.hpp"

namespace outlast::gateway {
namespace {

class TranslatingReader final : public AnswerReader {
 public:
  TranslatingReader(std::unique_ptr<AnswerParser> parser, AnswerContext context)
      : parser_(std::move(parser)), context_(std::move(context)), writer_(context_) {}

  Result<AnswerStep> feed(std::string_view bytes) override;
  Result<AnswerStep> finish() override;
  [[nodiscard]] const Usage& usage() const override { return parser_->state().usage; }
  [[nodiscard]] const BillingTerms& terms() const override { return parser_->state().terms; }
  [[nodiscard]] std::uint64_t content_bytes() const override {
    return parser_->state().content_bytes;
  }
  [[nodiscard]] bool inside_tool_call() const override { return parser_->state().inside_tool_call; }

 private:
  enum class Framing : std::uint8_t { unknown, stream, whole };

  void begin_step();
  Result<void> read_stream(std::string_view bytes);
  // Gives the events from `first` on to the caller's form.
  Result<void> sink(std::size_t first);
  AnswerStep step();

  std::unique_ptr<AnswerParser> parser_;
  AnswerContext context_;
  OpenaiStreamWriter writer_;    // openai_stream
  ResponseCollector collector_;  // openai_whole
  EventOrder order_;             // events
  http::SseReader reader_;
  Framing framing_ = Framing::unknown;
  std::string body_;  // of a whole answer
  std::vector<chat::Event> events_;
  std::string out_;
  bool content_ = false;
  bool given_ = false;  // events_ and out_ were given with the last step
  std::size_t preamble_bytes_ = 0;
};

void TranslatingReader::begin_step() {
  // The openai forms are done with events once they are written.
  if (given_ || context_.form != CallerForm::events) events_.clear();
  if (given_) out_.clear();
  given_ = false;
}

Result<AnswerStep> TranslatingReader::feed(std::string_view bytes) {
  begin_step();
  if (framing_ == Framing::unknown) {
    if (const std::size_t first = find_meaningful_byte(bytes); first != std::string_view::npos) {
      framing_ = bytes[first] == '{' ? Framing::whole : Framing::stream;
      if (framing_ == Framing::whole) bytes.remove_prefix(first);
    }
  }
  if (framing_ == Framing::whole) {
    if (body_.size() + bytes.size() > answer_bytes_max)
      return malformed("the answer is larger than 64 MiB");
    body_ += bytes;
    return step();
  }
  if (auto read = read_stream(bytes); !read) return fail(std::move(read.error()));
  return step();
}

Result<void> TranslatingReader::read_stream(std::string_view bytes) {
  const std::size_t first = events_.size();
  if (auto fed = reader_.feed(bytes); !fed) return malformed(fed.error().message);
  for (http::SseEvent event;
       !parser_->state().done && !parser_->state().failure && reader_.next(event);) {
    if (auto read = parser_->event(event, events_); !read) return read;
  }
  if (auto sunk = sink(first); !sunk) return sunk;
  if (context_.form == CallerForm::openai_whole &&
      parser_->state().content_bytes > answer_bytes_max) {
    return malformed("the answer is larger than 64 MiB");
  }
  if (!content_ && (preamble_bytes_ += bytes.size()) > preamble_bytes_max) {
    return malformed("the stream has 1 MiB before its first content");
  }
  return {};
}

Result<void> TranslatingReader::sink(std::size_t first) {
  for (std::size_t i = first; i < events_.size(); ++i) {
    const chat::Event& event = events_[i];
    Result<void> taken;
    switch (context_.form) {
      case CallerForm::openai_stream: taken = writer_.write(event, out_); break;
      case CallerForm::openai_whole: taken = collector_.accept(event); break;
      case CallerForm::events: taken = order_.accept(event); break;
    }
    if (!taken) return taken;
    content_ = content_ || carries_content(event);
  }
  if (context_.form == CallerForm::openai_whole && collector_.finished() && out_.empty()) {
    out_ = write_openai_response(collector_.response(), context_);
  }
  return {};
}

AnswerStep TranslatingReader::step() {
  AnswerStep step;
  const AnswerState& state = parser_->state();
  step.failure = state.failure;
  step.done = state.done && !state.failure;
  // A whole answer is given whole, or not at all.
  step.content = context_.form == CallerForm::openai_whole ? step.done : content_;
  if (!step.content) return step;
  given_ = true;
  if (context_.form == CallerForm::events) step.events = events_;
  else step.bytes = out_;
  return step;
}

Result<AnswerStep> TranslatingReader::finish() {
  begin_step();
  const std::size_t first = events_.size();
  if (framing_ == Framing::whole) {
    if (auto read = parser_->whole(body_, events_); !read) return fail(std::move(read.error()));
  } else if (reader_.pending_bytes() == 0) {
    parser_->end(events_);
  }
  if (auto sunk = sink(first); !sunk) return fail(std::move(sunk.error()));
  if (!parser_->state().done && !parser_->state().failure)
    return malformed("the answer ended before it was complete");
  return step();
}

}  // namespace

std::size_t find_meaningful_byte(std::string_view bytes) {
  return bytes.find_first_not_of(" \t\r\n\xef\xbb\xbf");
}

std::unique_ptr<AnswerReader> make_translating_reader(Dialect upstream, AnswerContext context) {
  auto parser = upstream == Dialect::openai ? make_openai_parser() : make_anthropic_parser();
  return std::make_unique<TranslatingReader>(std::move(parser), std::move(context));
}

std::unique_ptr<AnswerReader> make_answer_reader(Dialect upstream, AnswerContext context) {
  if (upstream == Dialect::openai && context.form == CallerForm::openai_whole)
    return make_pass_whole();
  if (upstream == Dialect::openai && context.form == CallerForm::openai_stream) {
    return make_pass_stream(std::move(context));
  }
  return make_translating_reader(upstream, std::move(context));
}

}  // namespace outlast::gateway
