#include "storage/recent_ids.hpp"

#include <catch2/catch.hpp>

#include <vector>

namespace outlast::storage::recent_ids_test {

TEST_CASE("an id that has ended is never called new, however many ended since", "[ledger]") {
  ManualClock clock;
  UuidGenerator ids(clock, 5);
  Random random(7);
  RecentIds recent;
  std::vector<RequestId> running;
  std::vector<RequestId> ended;
  std::size_t looked_up = 0;
  constexpr std::size_t count = 5 * RecentIds::generation_ids;
  for (std::size_t i = 0; i < count; ++i) {
    if (random.below(50) == 0) clock.advance_ms(1);
    const RequestId id = ids.next();
    if (!recent.surely_new(id)) ++looked_up;
    running.push_back(id);
    if (running.size() > 200) {  // requests end out of order
      const std::size_t at = random.below(running.size());
      recent.add(running[at]);
      ended.push_back(running[at]);
      running[at] = running.back();
      running.pop_back();
    }
    if (i % 1'000 == 0 && !ended.empty())
      CHECK_FALSE(recent.surely_new(ended[random.below(ended.size())]));
  }
  for (const RequestId& id : ended) REQUIRE_FALSE(recent.surely_new(id));
  CHECK(looked_up < count / 1'000);
}

TEST_CASE("after a restart nothing at or below the largest ended id is called new", "[ledger]") {
  ManualClock clock;
  UuidGenerator ids(clock, 5);
  const RequestId before = ids.next();
  const RequestId floor = ids.next();
  const RequestId after = ids.next();
  const RecentIds recent(floor);
  CHECK_FALSE(recent.surely_new(before));
  CHECK_FALSE(recent.surely_new(floor));
  CHECK(recent.surely_new(after));
}

}  // namespace outlast::storage::recent_ids_test
