#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage {

TEST_CASE("a new ledger begins with its incarnation and is whole", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  const std::vector<StoredEntry> entries = entries_of(*store);
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].kind() == EntryKind::incarnation);
  CHECK(entries[0].header.index == 0);
  require_whole(*store);
}

TEST_CASE("a request is reserved, attempted and settled, each once", "[ledger]") {
  const TemporaryFolder folder;
  const SystemClock clock;
  const auto store = open_store(folder.path(), clock);
  WaitingSubmitter lane(*store);
  UuidGenerator ids(clock, 1);
  const RequestId id = ids.next();
  CHECK_FALSE(lane.run(sample_reservation(id)));
  CHECK_FALSE(lane.run(sample_reservation(id)));  // the same again
  CHECK(store->status().open_reservations == 1);
  CHECK_FALSE(lane.run(sample_attempt(id, 1, AttemptStatus::overloaded, 0)));
  CHECK_FALSE(lane.run(sample_settlement(id, 600'000, 2)));
  CHECK_FALSE(lane.run(sample_settlement(id, 600'000, 2)));
  const std::vector<StoredEntry> entries = entries_of(*store, 1);
  REQUIRE(entries.size() == 3);
  CHECK(std::get<Reservation>(entries[0].body) == sample_reservation(id));
  CHECK(std::get<AttemptLine>(entries[1].body) == sample_attempt(id, 1, AttemptStatus::overloaded, 0));
  CHECK(std::get<proto::Settled>(entries[2].body).settlement == sample_settlement(id, 600'000, 2));
  CHECK(store->status().open_reservations == 0);
  require_whole(*store);
}

}  // namespace outlast::storage
