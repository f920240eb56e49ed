#include "cluster/message_room.hpp"

#include <catch2/catch.hpp>

#include <string>

#include "cluster/holder.hpp"

namespace outlast::cluster::message_room_test {
namespace {

constexpr std::size_t MiB = 1U << 20;

// As large as a frame may be.
shard::Message large_message() {
  shard::Acknowledgement body;
  body.refusals.push_back({1, 1, std::string(8 * MiB, 'x'), {}});
  return {0, 1, body};
}

}  // namespace

TEST_CASE("messages that wait are bounded by count and by bytes", "[cluster][queue]") {
  MessageRoom room(3);
  for (int i = 0; i < 3; ++i) CHECK(room.enter(1));
  CHECK_FALSE(room.enter(1));
  room.clear();
  CHECK(room.enter(MessageRoom::bytes_max - 1));
  CHECK(room.enter(1));
  CHECK_FALSE(room.enter(1));
  CHECK(room.dropped() == 2);
  room.clear();
  // One that is larger than all that may wait is not dropped for ever.
  CHECK(room.enter(2 * MessageRoom::bytes_max));
  CHECK_FALSE(room.enter(1));
}

TEST_CASE("a message counts with what it carries", "[cluster][queue]") {
  const std::string frame(MiB, 'x');
  const shard::Operations operations{{}, 1, 1, 1, 0, false, {shard::EntryOperation{frame}, shard::EntryOperation{frame}}};
  CHECK(size_of({0, 1, operations}) > 2 * MiB);
  CHECK(size_of({0, 1, operations}) < 3 * MiB);
  CHECK(size_of(large_message()) > 8 * MiB);
  CHECK(size_of({0, 1, shard::Demand{{}, std::vector<shard::BudgetDemand>(100)}}) > 100 * sizeof(shard::BudgetDemand));
  CHECK(size_of({0, 1, shard::Tail{1}}) < 1'000);
}

TEST_CASE("a holder drops what it has no room for", "[cluster][queue]") {
  ManualClock clock;
  Holder holder({}, clock, {});
  for (int i = 0; i < 10; ++i) holder.receive("n1", large_message());
  CHECK(holder.counters().dropped == 3);
}

}  // namespace outlast::cluster::message_room_test
