#include <catch2/catch.hpp>

#include "core/random.hpp"
#include "gateway/event_order.hpp"
#include "gateway/openai_writer.hpp"
#include "tests/gateway/dialect_support.hpp"

namespace event_order_test {

using namespace outlast;
using namespace outlast::gateway;

namespace {

std::vector<chat::Event> random_answer(Random& random) {
  std::vector<chat::Event> events{chat::Start{"id", "model"}};
  std::uint32_t calls = 0;
  for (std::uint64_t left = random.below(12); left > 0; --left) {
    switch (random.below(3)) {
      case 0: events.push_back(chat::TextDelta{"t" + std::to_string(random.below(100))}); break;
      case 1: events.push_back(chat::ReasoningDelta{"r"}); break;
      default:
        events.push_back(chat::ToolCallStart{calls, "call_" + std::to_string(calls), "f"});
        for (std::uint64_t fragments = random.below(4); fragments > 0; --fragments) {
          events.push_back(chat::ToolCallDelta{calls, "{}"});
        }
        ++calls;
    }
  }
  events.push_back(chat::Finish{chat::StopReason::stop, {}});
  return events;
}

// The grammar of core/chat.hpp, written down a second time and differently: as one string and its
// rules.
bool is_legal(const std::vector<chat::Event>& events) {
  std::string shape;
  std::uint32_t calls = 0;
  for (const auto& event : events) {
    shape += "STRCDF"[event.index()];
    if (const auto* start = std::get_if<chat::ToolCallStart>(&event);
        start != nullptr && start->index != calls++)
      return false;
    if (const auto* delta = std::get_if<chat::ToolCallDelta>(&event)) {
      const char before = shape.size() > 1 ? shape[shape.size() - 2] : ' ';
      if ((before != 'C' && before != 'D') || delta->index + 1 != calls) return false;
    }
  }
  return shape.starts_with('S') && shape.rfind('S') == 0 &&
         (shape.find('F') == std::string::npos || shape.find('F') == shape.size() - 1);
}

void mutate(std::vector<chat::Event>& events, Random& random) {
  const std::size_t at = random.below(events.size());
  const std::size_t other = random.below(events.size());
  switch (random.below(5)) {
    case 0: events.erase(events.begin() + static_cast<std::ptrdiff_t>(at)); break;
    case 1:
      events.insert(events.begin() + static_cast<std::ptrdiff_t>(other), chat::Event(events[at]));
      break;
    case 2: std::swap(events[at], events[other]); break;
    case 3:
      if (auto* start = std::get_if<chat::ToolCallStart>(&events[at]))
        start->index += static_cast<std::uint32_t>(random.below(3));
      break;
    default:
      if (auto* delta = std::get_if<chat::ToolCallDelta>(&events[at])) delta->index ^= 1;
  }
}

template <class Taker>
bool takes_all(Taker&& taker, const std::vector<chat::Event>& events) {
  for (const auto& event : events) {
    const auto taken = taker(event);
    if (!taken) {
      CHECK(is(taken.error(), DialectError::malformed_answer));
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("every legal order is accepted by the judge, the writer and the collector", "[dialect]") {
  for (std::uint64_t seed = 0; seed < 2'000; ++seed) {
    Random random(seed);
    const auto events = random_answer(random);
    INFO("seed " << seed);
    EventOrder order;
    REQUIRE(takes_all([&order](const chat::Event& event) { return order.accept(event); }, events));
    REQUIRE(order.finished());
    OpenaiStreamWriter writer(gateway::testing::context_of(CallerForm::openai_stream));
    std::string out;
    REQUIRE(takes_all([&](const chat::Event& event) { return writer.write(event, out); }, events));
    REQUIRE(out.ends_with("data: [DONE]\n\n"));
    ResponseCollector collector;
    REQUIRE(takes_all([&collector](const chat::Event& event) { return collector.accept(event); },
                      events));
    REQUIRE(collector.finished());
  }
}

TEST_CASE("an order is refused exactly when the grammar forbids it, and nothing of it is written",
          "[dialect]") {
  std::size_t illegal = 0;
  for (std::uint64_t seed = 0; seed < 20'000; ++seed) {
    Random random(seed);
    auto events = random_answer(random);
    for (std::uint64_t mutations = random.below(3) + 1; mutations > 0 && !events.empty();
         --mutations)
      mutate(events, random);
    INFO("seed " << seed);
    OpenaiStreamWriter writer(gateway::testing::context_of(CallerForm::openai_stream));
    std::vector<chat::Event> taken;
    bool refused = false;
    for (const auto& event : events) {
      std::string out;
      if (!writer.write(event, out)) {
        REQUIRE(out.empty());
        auto with_it = taken;
        with_it.push_back(event);
        REQUIRE_FALSE(is_legal(with_it));
        refused = true;
        break;
      }
      taken.push_back(event);
    }
    if (!taken.empty()) REQUIRE(is_legal(taken));
    illegal += refused ? 1 : 0;
  }
  CHECK(illegal > 5'000);
}

TEST_CASE("a refused event leaves the order as it was", "[dialect]") {
  EventOrder order;
  REQUIRE(order.accept(chat::Start{}));
  REQUIRE(order.accept(chat::ToolCallStart{0, "a", "f"}));
  CHECK_FALSE(order.accept(chat::ToolCallStart{2, "b", "f"}));
  CHECK_FALSE(order.accept(chat::ToolCallDelta{1, "{}"}));
  CHECK_FALSE(order.accept(chat::Start{}));
  CHECK(order.accept(chat::ToolCallDelta{0, "{}"}));
  CHECK(order.tool_calls() == 1);
  CHECK(order.accept(chat::Finish{}));
  CHECK_FALSE(order.accept(chat::TextDelta{"late"}));
  CHECK(order.finished());
}

}  // namespace event_order_test
