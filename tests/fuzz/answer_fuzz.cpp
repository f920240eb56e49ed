// Any bytes as an upstream's answer, in two pieces: every form ends in an error, a failure or an answer in legal order,
// and where it is cut makes no difference. The first two bytes choose the dialect, the form and the cut.
#include <cstdint>
#include <string>

#include "core/check.hpp"
#include "gateway/dialect.hpp"
#include "gateway/event_order.hpp"

using namespace outlast;
using namespace outlast::gateway;

namespace {

struct Read {
  std::string bytes;
  std::vector<chat::Event> events;
  bool done = false;
  bool broken = false;
  Usage usage;
};

bool take(Read& read, const Result<AnswerStep>& step) {
  if (!step) {
    read.broken = true;
    return false;
  }
  check(step->content || (step->bytes.empty() && step->events.empty()), "nothing comes before content");
  read.bytes += step->bytes;
  read.events.insert(read.events.end(), step->events.begin(), step->events.end());
  read.done = step->done;
  return !step->done && !step->failure;
}

Read read_answer(Dialect dialect, CallerForm form, std::string_view text, std::size_t cut) {
  const auto reader = make_answer_reader(dialect, {form, true, "id", 1, "smart"});
  Read read;
  const std::string first(text.substr(0, cut));
  const std::string second(text.substr(cut));
  if (take(read, reader->feed(first)) && take(read, reader->feed(second))) take(read, reader->finish());
  read.usage = reader->usage();
  return read;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const auto dialect = static_cast<Dialect>(data[0] & 1);
  const auto form = static_cast<CallerForm>((data[0] >> 1) % 3);
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Read whole = read_answer(dialect, form, text, text.size());
  const Read pieces = read_answer(dialect, form, text, text.empty() ? 0 : data[1] % text.size());
  check(whole.done == pieces.done, "a cut makes no difference to the end");
  check(whole.usage == pieces.usage, "nor to the usage");
  if (!whole.done) return 0;
  check(whole.events == pieces.events, "nor to the events");
  // Bytes that pass may differ in a line feed between events, and in what follows the end.
  if (dialect == Dialect::anthropic || form == CallerForm::openai_whole) check(whole.bytes == pieces.bytes, "nor to the bytes");
  if (form != CallerForm::events) return 0;
  ResponseCollector collector;
  for (const auto& event : whole.events) check(collector.accept(event).has_value(), "events come in legal order");
  check(collector.finished(), "and to their end");
  return 0;
}
