#include "actors/breaker_entries.hpp"

#include <catch2/catch.hpp>

namespace breaker_entries_test {

using namespace outlast;
using namespace outlast::actors;

namespace {

const BreakerTripped trip{"brk_a", "w", "key:key_a", "", SpendAction::hold, "why"};
const BreakerReset reset{"brk_a", "ann", "seen", {}};

std::vector<std::string> names_of(const std::vector<BreakerEvent>& events) {
  std::vector<std::string> names;
  for (const BreakerEvent& event : events) names.push_back(std::string(event.event) + " " + std::to_string(event.time_ms));
  return names;
}
using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("of a breaker's changes the latest waits, and an entry of any node ends the wait", "[spend_breaker]") {
  BreakerEntries entries;
  entries.changed({trip, {}}, 100);
  entries.changed({reset, {}}, 200);
  CHECK(entries.next_due_ms() == 200 + BreakerEntries::record_wait_ms);
  CHECK(entries.due(false, 199 + BreakerEntries::record_wait_ms).empty());
  const auto due = entries.due(false, 200 + BreakerEntries::record_wait_ms);
  REQUIRE(due.size() == 1);
  CHECK(std::holds_alternative<BreakerReset>(due[0].operation));
  CHECK_FALSE(entries.next_due_ms());

  entries.changed({trip, {}}, 300);
  CHECK(entries.due(true, 300).size() == 1);  // who leads waits for nobody
  entries.changed({trip, {}}, 400);
  entries.entered({trip, 1}, 0, 410);
  CHECK(entries.due(true, 9'000).empty());
  CHECK_FALSE(entries.take(trip.id));
}

TEST_CASE("a second entry of one trip is no news, one after a half-open time is", "[spend_breaker]") {
  BreakerEntries entries;
  CHECK(entries.entered({trip, 1'000}, 10, 0));
  CHECK_FALSE(entries.entered({trip, 2'500}, 10, 0));
  CHECK(entries.entered({trip, 11'000}, 10, 0));
  CHECK_FALSE(entries.entered({trip, 90'000}, 0, 0));  // a rule that never tries: it cannot have closed
  CHECK(entries.entered({reset, 95'000}, 0, 0));
  CHECK_FALSE(entries.entered({reset, 95'001}, 0, 0));
  CHECK(entries.entered({trip, 95'500}, 0, 0));
  CHECK(entries.entered({BreakerReset{"brk_a", "outlastd", "satisfied", {}}, 96'000}, 0, 0));
  CHECK(names_of(entries.to_tell(true, 0)) ==
        Names{"tripped 1000", "tripped 11000", "reset 95000", "tripped 95500", "closed 96000"});
  CHECK(entries.to_tell(true, 0).empty());
}

TEST_CASE("what another node has told is not told again, whatever came first", "[spend_breaker]") {
  BreakerEntries entries;
  entries.entered({trip, 1}, 0, 0);
  entries.told("brk_a-1-tripped");
  CHECK_FALSE(entries.keeps_untold());
  entries.told("brk_a-2-reset");
  entries.entered({reset, 2}, 0, 0);
  entries.entered({trip, 3}, 0, 0);
  CHECK(names_of(entries.to_tell(true, 0)) == Names{"tripped 3"});
}

TEST_CASE("what is kept for the next to lead is bounded in time and number", "[spend_breaker]") {
  BreakerEntries entries;
  BreakerTripped other = trip;
  for (std::size_t i = 0; i < BreakerEntries::untold_max + 3; ++i) {
    other.id = "brk_" + std::to_string(i);
    entries.entered({other, static_cast<std::int64_t>(i)}, 0, 0);
  }
  CHECK(entries.to_tell(false, BreakerEntries::tell_wait_ms).empty());
  auto told = entries.to_tell(true, BreakerEntries::tell_wait_ms);
  REQUIRE(told.size() == BreakerEntries::untold_max);
  CHECK(told[0].time_ms == 3);
  entries.entered({reset, 1}, 0, 0);
  entries.entered({trip, 1}, 0, 0);
  CHECK(entries.to_tell(true, BreakerEntries::tell_wait_ms + 1).empty());
  CHECK_FALSE(entries.keeps_untold());
}

}  // namespace breaker_entries_test
