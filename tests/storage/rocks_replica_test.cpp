// A store of a replica: what it keeps without a sync of its own, and copies of it taken while it is written.
#include "storage/rocks_log.hpp"

#include <catch2/catch.hpp>

#include "core/clock.hpp"
#include "core/id.hpp"
#include "storage/ledger_queries.hpp"
#include "storage/ledger_writer.hpp"
#include "tests/storage/ledger_fixture.hpp"

namespace rocks_replica_test {

using namespace outlast;
using namespace outlast::storage;

namespace {

void add_requests(LedgerWriter& writer, UuidGenerator& ids, int count) {
  for (int i = 0; i < count; ++i) {
    const RequestId id = ids.next();
    REQUIRE(writer.add(sample_reservation(id)));
    REQUIRE(writer.add(sample_settlement(id)));
    REQUIRE(writer.commit());
  }
}

}  // namespace

TEST_CASE("A checkpoint of a store that is being written is a whole ledger as of that moment", "[storage]") {
  const TemporaryFolder folder;
  const ManualClock clock;
  UuidGenerator ids(clock, 7);
  auto log = RocksLog::open(folder.path() + "/a", nullptr, RocksDuty::replica);
  REQUIRE(log);
  auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
  REQUIRE(writer);
  add_requests(**writer, ids, 50);
  const std::uint64_t entries = (*writer)->next_index();
  REQUIRE((*log)->checkpoint(folder.path() + "/b"));
  add_requests(**writer, ids, 50);  // after that moment

  auto copy = RocksLog::open(folder.path() + "/b", nullptr, RocksDuty::replica);
  REQUIRE(copy);
  const auto head = load_head(**copy);
  REQUIRE(head);
  CHECK(head->next_index == entries);
  const auto report = verify_ledger(**copy);
  REQUIRE(report);
  INFO(report->problem);
  CHECK(report->ok);
  CHECK_FALSE((*log)->checkpoint(folder.path() + "/b"));  // is there already
}

TEST_CASE("What a replica's store synced is there after it was closed", "[storage]") {
  const TemporaryFolder folder;
  const ManualClock clock;
  UuidGenerator ids(clock, 8);
  std::uint64_t entries = 0;
  {
    auto log = RocksLog::open(folder.path(), nullptr, RocksDuty::replica);
    REQUIRE(log);
    auto writer = LedgerWriter::open(**log, clock, ids.next(), "test");
    REQUIRE(writer);
    add_requests(**writer, ids, 20);
    REQUIRE((*log)->sync());
    entries = (*writer)->next_index();
  }
  auto log = RocksLog::open(folder.path(), nullptr, RocksDuty::replica);
  REQUIRE(log);
  CHECK(load_head(**log)->next_index == entries);
}

}  // namespace rocks_replica_test
