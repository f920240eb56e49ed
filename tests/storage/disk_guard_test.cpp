#include "storage/disk_guard.hpp"

#include "tests/storage/ledger_fixture.hpp"

namespace outlast::storage::disk_guard_test {

TEST_CASE(
    "the disk is full below the larger of the two limits, and looked at no more than each 100 ms",
    "[ledger]") {
  ManualClock clock;
  DiskSpace space{50, 1'000};
  int looks = 0;
  DiskGuard guard(
      "unused", {10, 0.04, 0},
      [&](const std::string&) -> Result<DiskSpace> {
        ++looks;
        return space;
      },
      clock);
  CHECK_FALSE(guard.full());
  const int looked = looks;
  space.free_bytes = 39;
  CHECK_FALSE(guard.full());
  CHECK(looks == looked);
  clock.advance_ms(100);
  CHECK(guard.full());
  CHECK(guard.free_bytes() == 39);
  space.free_bytes = 40;
  clock.advance_ms(100);
  CHECK_FALSE(guard.full());
}

TEST_CASE("the ballast is made while there is room and released once the disk is full",
          "[ledger]") {
  const TemporaryFolder folder;
  ManualClock clock;
  DiskSpace space{1'000'000, 1'000'000};
  DiskGuard guard(
      folder.path(), {1'000, 0, 65'536},
      [&space](const std::string&) -> Result<DiskSpace> { return space; }, clock);
  const std::string ballast = folder.path() + "/ballast";
  REQUIRE(std::filesystem::exists(ballast));
  CHECK(std::filesystem::file_size(ballast) == 65'536);
  guard.release_ballast_if_full();
  CHECK(std::filesystem::exists(ballast));
  space.free_bytes = 999;
  clock.advance_ms(100);
  CHECK(guard.full());
  guard.release_ballast_if_full();
  CHECK_FALSE(std::filesystem::exists(ballast));
}

TEST_CASE("the free space of a real folder is known", "[ledger]") {
  const TemporaryFolder folder;
  const Result<DiskSpace> space = disk_space_of(folder.path());
  REQUIRE(space);
  CHECK(space->total_bytes >= space->free_bytes);
  CHECK(space->total_bytes > 0);
  CHECK(is(disk_space_of(folder.path() + "/absent").error(), LedgerError::io));
}

}  // namespace outlast::storage::disk_guard_test
