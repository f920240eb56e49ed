#include "core/calendar.hpp"

#include <catch2/catch.hpp>

namespace outlast::calendar_test {
namespace {

constexpr std::int64_t hour = 3'600'000;

Period at(BudgetPeriod period, const std::string& zone, std::int64_t ms) {
  const Result<Period> found = period_at(period, zone, ms);
  INFO((found ? "" : found.error().message));
  REQUIRE(found);
  CHECK(found->start_ms <= ms);
  CHECK(ms < found->end_ms);
  return *found;
}

}  // namespace

TEST_CASE("days, weeks and months of UTC begin at midnight, weeks on Monday", "[calendar]") {
  const std::int64_t now = 1'764'084'638'000;  // Tuesday, 25 November 2025, 15:30:38
  CHECK(at(BudgetPeriod::day, "UTC", now) == Period{1'764'028'800'000, 1'764'115'200'000});
  CHECK(at(BudgetPeriod::week, "UTC", now) == Period{1'763'942'400'000, 1'764'547'200'000});
  CHECK(at(BudgetPeriod::month, "UTC", now) == Period{1'761'955'200'000, 1'764'547'200'000});
  CHECK(*period_at(BudgetPeriod::total, "UTC", now) == Period{});
  CHECK(at(BudgetPeriod::day, "UTC", 1'764'028'800'000).start_ms == 1'764'028'800'000);
  CHECK(at(BudgetPeriod::day, "UTC", 1'764'028'799'999).end_ms == 1'764'028'800'000);
  // A leap day, and the turn of a year.
  CHECK(at(BudgetPeriod::month, "UTC", 1'709'164'800'000).end_ms == 1'709'251'200'000);
  CHECK(at(BudgetPeriod::month, "UTC", 1'767'225'599'999).end_ms == 1'767'225'600'000);
}

TEST_CASE("days are 23 and 25 hours long where clocks change", "[calendar]") {
  // Berlin: 30 March and 26 October 2025.
  const Period spring = at(BudgetPeriod::day, "Europe/Berlin", 1'743'325'200'000);
  CHECK(spring.end_ms - spring.start_ms == 23 * hour);
  const Period autumn = at(BudgetPeriod::day, "Europe/Berlin", 1'761'476'400'000);
  CHECK(autumn.end_ms - autumn.start_ms == 25 * hour);
  const Period month = at(BudgetPeriod::month, "Europe/Berlin", 1'761'476'400'000);
  CHECK(month.end_ms - month.start_ms == (31 * 24 + 1) * hour);
}

TEST_CASE("a day begins at the change where clocks skip or repeat midnight", "[calendar]") {
  // Santiago skipped the midnight of 7 September 2025, and came back to 23:00 on 6 April.
  const Period skipped = at(BudgetPeriod::day, "America/Santiago", 1'757'250'000'000);
  CHECK(skipped.start_ms == 1'757'217'600'000);
  CHECK(skipped.end_ms - skipped.start_ms == 23 * hour);
  const Period repeated = at(BudgetPeriod::day, "America/Santiago", 1'743'900'000'000);
  CHECK(at(BudgetPeriod::day, "America/Santiago", repeated.end_ms).start_ms == repeated.end_ms);
}

TEST_CASE("periods follow each other without a gap in every zone", "[calendar]") {
  for (const char* zone : {"UTC", "Europe/Berlin", "America/New_York", "America/Santiago",
                           "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"}) {
    for (const BudgetPeriod kind : {BudgetPeriod::day, BudgetPeriod::week, BudgetPeriod::month}) {
      INFO(zone << " " << name_of(kind));
      std::int64_t end_ms = at(kind, zone, 1'735'000'000'000).end_ms;
      for (int i = 0; i < 800; ++i) {
        const Period next = at(kind, zone, end_ms);
        REQUIRE(next.start_ms == end_ms);
        REQUIRE(at(kind, zone, next.end_ms - 1) == next);
        end_ms = next.end_ms;
      }
    }
  }
}

TEST_CASE("an unknown time zone is refused with what would be right", "[calendar]") {
  for (const std::string zone : {"", "Mars/Olympus", "../../etc/passwd", "Europe/Berlin\n"}) {
    for (const BudgetPeriod period : {BudgetPeriod::day, BudgetPeriod::total}) {
      const Result<Period> found = period_at(period, zone, 0);
      REQUIRE_FALSE(found);
      CHECK(is(found.error(), CalendarError::unknown_time_zone));
      CHECK(found.error().message.find("Europe/Berlin") != std::string::npos);
    }
  }
  CHECK_FALSE(period_at(BudgetPeriod::day, std::string(70, 'z'), 0));
}

TEST_CASE("a calendar answers from memory only within the period", "[calendar]") {
  Calendar calendar;
  const std::int64_t now = 1'764'084'638'000;
  const Period first = *calendar.period_at(BudgetPeriod::day, "Europe/Berlin", now);
  CHECK(*calendar.period_at(BudgetPeriod::day, "Europe/Berlin", now + 1) == first);
  CHECK(calendar.period_at(BudgetPeriod::day, "Europe/Berlin", first.end_ms)->start_ms ==
        first.end_ms);
  CHECK(*calendar.period_at(BudgetPeriod::day, "Europe/Berlin", now) == first);
  CHECK_FALSE(calendar.period_at(BudgetPeriod::day, "Mars/Olympus", now));
}

}  // namespace outlast::calendar_test
